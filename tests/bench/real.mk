# Whole runs on real data, read from BALDISTILL_DATA. Included by the Makefile.
BALDISTILL_DATA ?= ../shared/data
REAL_HOME ?= .baldistill/real

.PHONY: bench-real
bench-real: $(READY) ## Whole runs on trec50 and r8: tables, minutes per step, calls
	@test -d $(BALDISTILL_DATA) || { echo "no real data at $(BALDISTILL_DATA): set BALDISTILL_DATA" >&2; exit 1; }
	for name in trec50 r8; do \
	  $(BIN)/baldistill data import $$name --home $(REAL_HOME) \
	    --train $(BALDISTILL_DATA)/$$name/train.jsonl.gz --test $(BALDISTILL_DATA)/$$name/test.jsonl.gz; \
	  $(BIN)/baldistill run tests/bench/real/$$name.yaml --home $(REAL_HOME); \
	done
