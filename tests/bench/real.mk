# Whole runs on real data, read from BALDISTILL_DATA. Included by the Makefile.
BALDISTILL_DATA ?= ../shared/data
REAL_HOME ?= .baldistill/real

# Stopped or killed, the same command goes on where it was.
define RUN_REAL
	@test -d $(BALDISTILL_DATA) || { echo "no real data at $(BALDISTILL_DATA): set BALDISTILL_DATA" >&2; exit 1; }
	set -e; for name in $(or $(ONLY),trec50 r8); do \
	  $(BIN)/baldistill data import $$name --home $(REAL_HOME) \
	    --train $(BALDISTILL_DATA)/$$name/train.jsonl.gz --test $(BALDISTILL_DATA)/$$name/test.jsonl.gz; \
	  $(BIN)/baldistill run tests/bench/real/$$name$(1).yaml --home $(REAL_HOME); \
	done
endef

.PHONY: bench-real bench-real-full
bench-real: $(READY) ## Whole runs on trec50 and r8, cut short: tables, minutes per step, calls (half an hour; ONLY=trec50)
	$(call RUN_REAL,)

bench-real-full: $(READY) ## The same at full size: whole pool scored, 5 epochs, whole test set (hours; ONLY=trec50)
	$(call RUN_REAL,-full)
