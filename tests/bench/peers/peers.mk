# Peers of benchmarks, each in an environment of its own. Included by the Makefile.
PEERS ?= $(HOME)/.cache/baldistill/peers

$(PEERS)/%/.ready: tests/bench/peers/%.txt $(READY)
	@echo "Setting up the peer $* in $(PEERS)/$*"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)/$*
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(PEERS)/$*/bin/python -r tests/bench/peers/$*.txt
	@touch $@

.PHONY: bench-trainer
bench-trainer: $(READY) $(PEERS)/trl/.ready ## Training against TRL's SFTTrainer: tokens/s, loss, memory (resumable; PAIRS=5)
	$(BIN)/python -m tests.bench.bench_trainer --peer $(PEERS)/trl/bin/python --data $(BALDISTILL_DATA) --pairs $(or $(PAIRS),5)

.PHONY: bench-preemption
bench-preemption: $(READY) ## One training killed 20 times: the bytes of an undisturbed one, steps repeated (3 minutes)
	$(BIN)/python -m tests.bench.bench_preemption

.PHONY: bench-workers
bench-workers: $(READY) ## The same shards scored by one selector-worker and by two, 1 thread each (5 minutes)
	BALDISTILL_DATA=$(BALDISTILL_DATA) $(BIN)/python -m tests.bench.bench_workers
