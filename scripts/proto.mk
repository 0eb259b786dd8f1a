# The wire format: generated code and what keeps it compatible. Included by the Makefile, which defines BIN and READY.

BUF := node_modules/.bin/buf
# What must not break: the protos of the last release.
PROTO_BASELINE := protos/baseline.binpb

.PHONY: proto proto-check proto-baseline

# The binary comes inside the platform's own package; nothing is downloaded by an install script.
$(BUF): package.json package-lock.json
	@command -v npm >/dev/null || { echo "npm (Node.js) is needed for buf, which lints the protos" >&2; exit 1; }
	@npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

proto: $(READY) ## Generate libs/baldistill/v1 from protos/
	$(BIN)/python scripts/generate_protos.py

proto-check: $(READY) $(BUF) ## Lint the protos, compare them with the last release, check that generated code is fresh
	$(BUF) lint
	$(BUF) breaking --against $(PROTO_BASELINE)
	$(BIN)/python scripts/generate_protos.py --check

proto-baseline: $(BUF) ## Accept the protos as the release that must not break from now on
	$(BUF) build --exclude-source-info -o $(PROTO_BASELINE)
