"""A run's report: built once from artifacts, ledger and registry; drawn as tables, Markdown or JSON."""
