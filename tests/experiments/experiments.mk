# The study on real data, read from BALDISTILL_DATA. Included by the Makefile.
EXPERIMENTS_HOME ?= .baldistill/experiments

.PHONY: experiments
experiments: $(READY) ## Measure the methods on real data and write docs/results.md; hours, goes on where it was stopped
	@test -d $(BALDISTILL_DATA) || { echo "no real data at $(BALDISTILL_DATA): set BALDISTILL_DATA" >&2; exit 1; }
	$(BIN)/python -m tests.experiments.run --data $(BALDISTILL_DATA) --home $(EXPERIMENTS_HOME) $(EXPERIMENTS)
