"""docs/reference/metrics.md, made from the declarations: `python -m baldistill.telemetry.metrics_reference`."""

from __future__ import annotations

from pathlib import Path

from baldistill.telemetry.metrics import METRICS

_HEAD = """# Metrics

Every process serves Prometheus metrics at `/metrics` of `BALDISTILL_SERVER__METRICS_LISTEN`, and there `/healthz`
(the process lives) and `/readyz` (what its services need is there; else 503 with what is lacking). Names are
`baldistill_<service>_<noun>_<unit>[_total]`; `process`, `rpc`, `consumer` and `launcher` are parts that services
share. Labels have bounds: further values are counted as `other`, further gauges are left out. A gauge whose source is
away is absent, never stale. Runs, jobs and budgets are reported by one replica at a time, so that they may be summed;
after it died they are absent until another has waited for `BALDISTILL_TELEMETRY__HANDOVER_S`, which is to be longer
than the scrape interval. A tenant's budget (`run=""`) includes its runs: sum one or the other. Besides, there are
`process_*` (CPU, memory, file descriptors). Made from `libs/baldistill/telemetry/metrics.py` by `python -m
baldistill.telemetry.metrics_reference`.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def metrics_reference() -> str:
    """Return the page."""
    rows = [
        f"| `{metric.name}` | {metric.kind.value} | {', '.join(metric.label_names)} | {metric.help} |"
        for metric in METRICS
    ]
    labels = {label for metric in METRICS for label in metric.labels}
    bounds = [
        f"| {label.name} | {label.bound} | {label.most} |"
        for label in sorted(labels, key=lambda label: (label.name, label.bound))
    ]
    return _HEAD + "\n".join(rows) + "\n\n| label | values | at most |\n|---|---|---:|\n" + "\n".join(bounds) + "\n"


if __name__ == "__main__":
    Path("docs/reference/metrics.md").write_text(metrics_reference())
