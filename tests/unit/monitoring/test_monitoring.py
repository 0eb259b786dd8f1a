"""Rules, dashboards and runbooks hang together, and read no metric that nobody declares."""

from __future__ import annotations

from pathlib import Path

import pytest

from baldistill.telemetry.declarations import Kind
from baldistill.telemetry.metrics import BUDGETS, METRICS
from scripts.monitoring import dashboards
from scripts.monitoring.charted import charted, filled, metrics_in, panels
from scripts.monitoring.rules import ALERT_TESTS, RECORDED_ONLY, Alert, BadRule, alerts_under_test, read_rules
from scripts.monitoring.units import written

# Of Prometheus itself, prometheus_client, and NVIDIA's exporter of GPU metrics.
FOREIGN = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes", "DCGM_FI_DEV_GPU_UTIL"}
PARTS = ("_bucket", "_count", "_sum")


def declared() -> set[str]:
    names = {metric.name for metric in METRICS}
    histograms = {metric.name + part for metric in METRICS if metric.kind is Kind.HISTOGRAM for part in PARTS}
    return names | histograms


def test_rules_read_what_is_declared_or_recorded() -> None:
    rules = read_rules()
    known = declared() | FOREIGN | {recording.name for recording in rules.recordings}
    for recording in rules.recordings:
        assert metrics_in(recording.expr) <= known, recording


def test_panels_read_what_is_declared_or_recorded() -> None:
    known = declared() | FOREIGN | {recording.name for recording in read_rules().recordings}
    for one in charted():
        assert metrics_in(one.expr), one
        assert metrics_in(one.expr) <= known, one


def test_every_declared_metric_is_charted_or_recorded() -> None:
    read = {name for one in charted() for name in metrics_in(one.expr)}
    read |= {name for recording in read_rules().recordings for name in metrics_in(recording.expr)}
    plain = {name.removesuffix(part) for name in read for part in PARTS} | read
    # Alive or not is `up`; how many calls began is what ended and what is under way.
    unread = {
        "baldistill_process_build_info",
        "baldistill_rpc_started_calls_total",
        "baldistill_http_started_calls_total",
    }
    # Of each quantity there is a panel in the unit that matters; `budget show` has the others.
    unread |= {metric.name for metric in BUDGETS.values()}
    assert {metric.name for metric in METRICS} - plain - unread == set()


@pytest.mark.parametrize("alert", read_rules().alerts, ids=lambda alert: alert.name)
def test_an_alert_has_a_runbook_a_dashboard_and_a_severity(alert: Alert) -> None:
    annotations = alert.annotations
    assert Path(annotations["runbook"]).is_file()
    assert Path(annotations["runbook"]).name in Path("docs/runbooks/README.md").read_text()
    assert (dashboards.FOLDER / f"{annotations['dashboard']}.json").is_file()
    assert alert.labels["severity"] in {"warning", "critical"}


def test_every_runbook_is_of_an_alert() -> None:
    pages = {path.name for path in Path("docs/runbooks").glob("*.md")} - {"README.md"}
    assert pages == {Path(alert.annotations["runbook"]).name for alert in read_rules().alerts}


def test_every_alert_is_seen_to_fire_and_not_to() -> None:
    names = {alert.name for alert in read_rules().alerts}
    assert alerts_under_test() == (names, names)


def test_dashboards_are_as_their_code_says() -> None:
    there = {path.name: path.read_text() for path in dashboards.FOLDER.glob("*.json")}
    assert there == dashboards.texts()


def test_panels_lie_beside_each_other_in_24_columns() -> None:
    for shown in panels().values():
        taken: set[tuple[int, int]] = set()
        for panel in shown:
            columns, rows = range(panel.x, panel.x + panel.width), range(panel.y, panel.y + panel.height)
            place = {(column, row) for column in columns for row in rows}
            assert panel.x + panel.width <= 24, panel.title
            assert not place & taken, panel.title
            taken |= place


def test_what_no_stack_can_show_is_recorded_for_promtool() -> None:
    recordings = {recording.name: recording.expr for recording in read_rules().recordings}
    recorded = ALERT_TESTS.read_text()
    for name in RECORDED_ONLY:
        assert all(f"series: {metric}" in recorded for metric in metrics_in(recordings[name])), name


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.123, "percentunit", "12.3 %"),
        (0.0125, "currencyUSD", "$0.0125"),
        (3 * 2**20, "bytes", "3 MiB"),
        (2.5 * 2**30, "bytes", "2.5 GiB"),
        (90, "s", "1.5 min"),
        (0.0042, "s", "4.2 ms"),
        (0.5, "reqps", "0.5 req/s"),
        (12345, "short", "12.35 K"),
        (float("nan"), "s", "none"),
    ],
)
def test_values_are_written_with_their_unit(value: float, unit: str, text: str) -> None:
    assert written(value, unit) == text


def test_an_alert_that_compares_no_recorded_series_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("spec: {groups: [{name: g, rules: [{alert: A, expr: 'rate(up[5m]) > 0'}]}]}")
    with pytest.raises(BadRule, match="A: `rate"):
        read_rules(path)


def test_variables_are_filled_in() -> None:
    expr = 'rate(x{a=~"$tenant",b=~"$run"}[$__rate_interval])'
    assert filled(expr, {"run": "r1"}) == 'rate(x{a=~".*",b=~"r1"}[1m])'


def test_metrics_are_found_in_an_expression() -> None:
    expr = 'histogram_quantile(0.5, sum by (le, upper) (rate(baldistill_a_bucket{up="1"}[1m]))) / on (up) up'
    assert metrics_in(expr) == {"baldistill_a_bucket", "up"}
