"""Metrics are declared before use, named by one rule, and bounded; what is declared is emitted somewhere."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from baldistill.runtime.outcomes import Outcome
from baldistill.telemetry import metrics as declared
from baldistill.telemetry.declarations import Kind, Metric, NotDeclared, Sample
from baldistill.telemetry.metrics import (
    BUDGETS,
    CONSUMER_LAG,
    METRICS,
    POLICY_DOMAIN_SCORE,
    POLICY_LETTERS,
    POLICY_PLANNED,
    POLICY_QUIET,
    POLICY_SCORE,
    POLICY_SCORE_CHANGE,
    POLICY_STAGE,
    POLICY_STEP,
    RPC_DURATION,
    RPC_STARTED,
)
from baldistill.telemetry.metrics_reference import metrics_reference
from baldistill.telemetry.observers import (
    BudgetReading,
    CountedCalls,
    CountedDeliveries,
    CountedRequests,
    observe_job,
    report_budgets,
    report_dependencies,
    report_jobs,
    report_lag,
    report_runs,
)
from baldistill.telemetry.process_metrics import ProcessMetrics

ROOT = Path(__file__).parents[3]
SERVICES = ("process", "rpc", "http", "consumer", "launcher", "policy", "selector", "teacher_gateway", "trainer")
UNITS = (
    "seconds", "bytes", "messages", "deliveries", "calls", "tokens", "usd", "runs", "jobs", "info", "up", "ratio",
    "examples", "letters", "number",
)  # fmt: skip
# Emitted by the gateway's own metrics (tests/unit/teacher_gateway/test_gateway_metrics.py).
GATEWAY = [
    metric
    for metric in METRICS
    if metric.name.startswith("baldistill_teacher_gateway_") and metric not in BUDGETS.values()
]
# How long a page may get: series of one metric, all labels at their bounds.
MOST_SERIES = 50_000


@pytest.fixture
def metrics() -> ProcessMetrics:
    return ProcessMetrics(service="policy", version="1.2.3")


def samples(metrics: ProcessMetrics) -> dict[str, float]:
    """Return each sample's value by its name and labels, ours alone."""
    page = metrics.page()[0].decode()
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith("baldistill_") and not sample.name.endswith("_created")
    }


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_name_says_service_noun_and_unit(metric: Metric) -> None:
    total = "_total" if metric.kind is Kind.COUNTER else ""
    assert re.fullmatch(
        rf"baldistill_({'|'.join(SERVICES)})_[a-z]+(_[a-z]+)*_({'|'.join(UNITS)}){total}", metric.name
    ) or (metric.name == "baldistill_process_dependency_up")
    assert metric.help.endswith(".")
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_labels_are_bounded(metric: Metric) -> None:
    series = 1
    for label in metric.labels:
        assert label.bound
        series *= label.most
    assert (metric.most_series or series) <= MOST_SERIES


def test_names_are_unique() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)


def test_every_declared_constant_is_listed() -> None:
    constants = {value for value in vars(declared).values() if isinstance(value, Metric)}
    assert constants | set(BUDGETS.values()) == set(METRICS)


def test_every_declared_metric_is_emitted(metrics: ProcessMetrics) -> None:
    emit_all(metrics)
    emitted = {family.name for family in text_string_to_metric_families(metrics.page()[0].decode()) if family.samples}
    assert {metric.name.removesuffix("_total") for metric in METRICS} <= emitted


def test_every_metric_that_is_declared_is_known_to_somebody_who_emits_it() -> None:
    sources = "\n".join(
        path.read_text()
        for root in ("libs", "services")
        for path in (ROOT / root).rglob("*.py")
        if path.name != "metrics.py"
    )
    constants = [name for name, value in vars(declared).items() if isinstance(value, Metric)]
    assert [name for name in constants if not re.search(rf"\b{name}\b", sources)] == []


def emit_all(metrics: ProcessMetrics) -> None:
    calls, deliveries = CountedCalls(metrics), CountedDeliveries(metrics)
    calls.started(method="/s/M")
    calls.handled(method="/s/M", code="OK", duration_s=0.2)
    requests = CountedRequests(metrics)
    requests.started(method="/v1/models")
    requests.handled(method="/v1/models", code="200", duration_s=0.2)
    deliveries.count(Outcome.HANDLED, group="selector", topic="t")
    deliveries.handled(group="selector", topic="t", duration_s=0.2)
    report_lag(metrics, lambda: {("selector", "t"): 3})
    report_dependencies(metrics, lambda: {("face", "database"): False})
    report_runs(metrics, lambda: {("acme", "running"): 2})
    for metric in (
        POLICY_STAGE,
        POLICY_STEP,
        POLICY_QUIET,
        POLICY_LETTERS,
        POLICY_SCORE,
        POLICY_SCORE_CHANGE,
        POLICY_DOMAIN_SCORE,
        POLICY_PLANNED,
    ):
        metrics.measure([metric], one_sample(metric))
    report_jobs(metrics, lambda: {("train", "running"): 1})
    observe_job(metrics, kind="train", duration_s=90.0)
    report_budgets(metrics, readings)
    for metric in GATEWAY:
        labels = {label.name: "x" for label in metric.labels}
        match metric.kind:
            case Kind.GAUGE:
                metrics.measure([metric], one_sample(metric))
            case Kind.COUNTER:
                metrics.count(metric, by=1, **labels)
            case Kind.HISTOGRAM:
                metrics.observe(metric, 1.0, **labels)


def one_sample(metric: Metric) -> Callable[[], Iterable[Sample]]:
    return lambda: [Sample(metric=metric, value=1, labels=metric.label_names)]


def readings() -> Iterable[BudgetReading]:
    return [
        BudgetReading(tenant="acme", run="r1", unit="calls", limit=100, spent=40, held=5, unknown=1),
        BudgetReading(tenant="acme", run="r1", unit="tokens", limit=9, spent=2, held=0, unknown=0),
        BudgetReading(
            tenant="acme", run="r1", unit="nano_usd", limit=2_000_000_000, spent=500_000_000, held=0, unknown=0
        ),
        BudgetReading(tenant="acme", run="", unit="tokens", limit=None, spent=7, held=0, unknown=0),
    ]


def test_a_budget_is_reported_in_its_unit_and_without_a_ceiling_has_no_limit(metrics: ProcessMetrics) -> None:
    report_budgets(metrics, readings)
    seen = samples(metrics)
    run, tenant = "[('run', 'r1'), ('tenant', 'acme')]", "[('run', ''), ('tenant', 'acme')]"
    prefix = "baldistill_teacher_gateway_budget_"
    assert seen[f"{prefix}remaining_calls{run}"] == 55
    assert seen[f"{prefix}unknown_calls{run}"] == 1
    assert seen[f"{prefix}limit_usd{run}"] == 2.0
    assert seen[f"{prefix}spent_usd{run}"] == 0.5
    assert seen[f"{prefix}spent_tokens{tenant}"] == 7
    assert f"{prefix}limit_tokens{tenant}" not in seen
    assert f"{prefix}remaining_tokens{tenant}" not in seen


def test_gauges_whose_source_is_away_are_absent_and_the_rest_is_there(metrics: ProcessMetrics) -> None:
    def away() -> dict[tuple[str, str], int]:
        raise ConnectionError("the broker")

    report_lag(metrics, away)
    CountedCalls(metrics).started(method="/s/M")
    seen = samples(metrics)
    assert not [name for name in seen if name.startswith(CONSUMER_LAG.name)]
    assert seen["baldistill_rpc_started_calls_total[('method', '/s/M')]"] == 1


def test_a_source_that_hangs_holds_up_neither_the_page_nor_the_others(metrics: ProcessMetrics) -> None:
    answer = threading.Event()

    def hangs() -> dict[tuple[str, str], int]:
        answer.wait()
        return {("selector", "t"): 3}

    report_lag(metrics, hangs)
    report_runs(metrics, lambda: {("acme", "running"): 2})
    for metric in (
        POLICY_STAGE,
        POLICY_STEP,
        POLICY_QUIET,
        POLICY_LETTERS,
        POLICY_SCORE,
        POLICY_SCORE_CHANGE,
        POLICY_DOMAIN_SCORE,
        POLICY_PLANNED,
    ):
        metrics.measure([metric], one_sample(metric))
    seen = samples(metrics)
    assert not [name for name in seen if name.startswith(CONSUMER_LAG.name)]
    assert seen["baldistill_policy_state_runs[('state', 'running'), ('tenant', 'acme')]"] == 2
    answer.set()
    assert f"{CONSUMER_LAG.name}[('group', 'selector'), ('topic', 't')]" in samples(metrics)


def test_values_beyond_a_labels_bound_are_counted_as_other(metrics: ProcessMetrics) -> None:
    for number in range(70):
        metrics.count(RPC_STARTED, method=f"/s/M{number}")
    seen = samples(metrics)
    assert len(seen) == 1 + 64 + 1
    assert seen["baldistill_rpc_started_calls_total[('method', 'other')]"] == 6


def test_gauges_beyond_a_labels_bound_are_left_out(metrics: ProcessMetrics) -> None:
    metrics.measure(
        [CONSUMER_LAG], lambda: [Sample(metric=CONSUMER_LAG, value=1, labels=(f"g{n}", "t")) for n in range(20)]
    )
    assert len([name for name in samples(metrics) if name.startswith(CONSUMER_LAG.name)]) == 16


def test_two_processes_in_one_interpreter_count_apart(metrics: ProcessMetrics) -> None:
    other = ProcessMetrics(service="trainer", version="1.2.3")
    other.count(RPC_STARTED, method="/s/M")
    assert not [name for name in samples(metrics) if name.startswith(RPC_STARTED.name)]


def test_what_is_not_declared_cannot_be_emitted(metrics: ProcessMetrics) -> None:
    undeclared = Metric(name="baldistill_policy_new_things_total", kind=Kind.COUNTER, help="New.")
    with pytest.raises(NotDeclared, match=r"baldistill_policy_new_things_total is not declared"):
        metrics.count(undeclared)
    with pytest.raises(NotDeclared, match="is a histogram, not a counter"):
        metrics.count(RPC_DURATION, method="/s/M")
    with pytest.raises(NotDeclared, match="has the labels"):
        metrics.count(RPC_STARTED)


def test_the_reference_is_what_is_declared() -> None:
    page = ROOT / "docs" / "reference" / "metrics.md"
    assert page.read_text() == metrics_reference(), "run `python -m baldistill.telemetry.metrics_reference`"
