# Rules, dashboards and their proofs. Included by the Makefile (BIN, READY).

.PHONY: dashboards monitoring-check

dashboards: $(READY) ## Write the Grafana dashboards from their code
	$(BIN)/python -m scripts.monitoring.dashboards

# MONITORING: e.g. --pictures docs/monitoring
monitoring-check: $(READY) ## promtool on every rule and alert; every panel and alert asked of a Prometheus that scraped real runs (minutes)
	$(BIN)/python -m scripts.monitoring.dashboards --check
	$(BIN)/pytest -q tests/unit/monitoring tests/integration/monitoring
	$(BIN)/python -m tests.stack.monitoring $(MONITORING)
