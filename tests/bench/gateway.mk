# The gateway's benches. Included by the Makefile (BIN, READY).
PEERS ?= $(HOME)/.cache/baldistill/peers
LITELLM := $(PEERS)/litellm/.ready-1.108.7

.PHONY: bench-gateway bench-overspend

# An environment of its own: a peer's dependencies are not ours.
$(LITELLM): tests/bench/peers/litellm.txt
	@echo "Setting up the LiteLLM proxy in $(PEERS)/litellm"
	@$(PYTHON) -m venv $(PEERS)/litellm
	@$(BIN)/uv pip install --quiet --python $(PEERS)/litellm/bin/python -r $<
	@touch $@

bench-gateway: $(READY) $(LITELLM) ## Calls through the gateway beside the LiteLLM proxy: requests a second, added latency (about 5 minutes)
	BALDISTILL_PEERS=$(PEERS) $(BIN)/python -m tests.bench.bench_gateway

bench-overspend: $(READY) ## Four gateways, kills, stops, hang-ups: is a budget exceeded, a call lost or bought twice? (CALLS=50000)
	$(BIN)/python -m tests.bench.bench_overspend $(if $(CALLS),--calls $(CALLS))
