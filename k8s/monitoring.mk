# Rules, dashboards and their proofs. Included by the Makefile (BIN, READY).

.PHONY: dashboards monitoring-check

dashboards: $(READY) ## Write the Grafana dashboards from their code
	$(BIN)/python -m scripts.monitoring.dashboards

monitoring-check: $(READY) ## promtool on every rule and alert
	$(BIN)/python -m scripts.monitoring.dashboards --check
	$(BIN)/pytest -q tests/unit/monitoring tests/integration/monitoring
