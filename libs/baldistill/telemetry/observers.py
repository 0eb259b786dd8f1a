"""What the shared parts count, written to a process's metrics: calls, deliveries, lag, health, runs, jobs, budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from baldistill.runtime.outcomes import Outcome
from baldistill.telemetry.declarations import Sample
from baldistill.telemetry.metrics import (
    BUDGETS,
    CONSUMER_DELIVERIES,
    CONSUMER_HANDLING,
    CONSUMER_LAG,
    HTTP_DURATION,
    HTTP_HANDLED,
    HTTP_STARTED,
    LAUNCHER_JOB_DURATION,
    LAUNCHER_JOBS,
    POLICY_RUNS,
    PROCESS_DEPENDENCY_UP,
    RPC_DURATION,
    RPC_HANDLED,
    RPC_STARTED,
)
from baldistill.telemetry.process_metrics import ProcessMetrics

_NANO = 1e-9


class CountedCalls:
    """A CallObserver of rpc/observation.py."""

    def __init__(self, metrics: ProcessMetrics) -> None:
        self._metrics = metrics

    def started(self, *, method: str) -> None:
        self._metrics.count(RPC_STARTED, method=method)

    def handled(self, *, method: str, code: str, duration_s: float) -> None:
        self._metrics.count(RPC_HANDLED, method=method, code=code)
        self._metrics.observe(RPC_DURATION, duration_s, method=method)


class CountedRequests:
    """A CallObserver of the HTTP face: methods are routes, codes are HTTP's."""

    def __init__(self, metrics: ProcessMetrics) -> None:
        self._metrics = metrics

    def started(self, *, method: str) -> None:
        self._metrics.count(HTTP_STARTED, route=method)

    def handled(self, *, method: str, code: str, duration_s: float) -> None:
        self._metrics.count(HTTP_HANDLED, route=method, status=code)
        self._metrics.observe(HTTP_DURATION, duration_s, route=method)


class CountedDeliveries:
    """An OutcomeCounter of runtime/outcomes.py, and where the time of handling goes."""

    def __init__(self, metrics: ProcessMetrics) -> None:
        self._metrics = metrics

    def count(self, outcome: Outcome, *, group: str, topic: str) -> None:
        self._metrics.count(CONSUMER_DELIVERIES, group=group, topic=topic, outcome=outcome.value)

    def handled(self, *, group: str, topic: str, duration_s: float) -> None:
        """Observe how long one delivery took."""
        self._metrics.observe(CONSUMER_HANDLING, duration_s, group=group, topic=topic)


def report_lag(metrics: ProcessMetrics, lag: Callable[[], Mapping[tuple[str, str], int]]) -> None:
    """Report messages that are not committed. lag: by (group, topic); raises while the broker is away."""

    def read() -> Iterable[Sample]:
        return [Sample(metric=CONSUMER_LAG, value=value, labels=labels) for labels, value in lag().items()]

    metrics.measure([CONSUMER_LAG], read)


def report_dependencies(metrics: ProcessMetrics, checks: Callable[[], Mapping[tuple[str, str], bool]]) -> None:
    """Report what services need. checks: whether it answers, by (face, check)."""

    def read() -> Iterable[Sample]:
        return [Sample(metric=PROCESS_DEPENDENCY_UP, value=up, labels=labels) for labels, up in checks().items()]

    metrics.measure([PROCESS_DEPENDENCY_UP], read)


def report_runs(metrics: ProcessMetrics, runs: Callable[[], Mapping[tuple[str, str], int]]) -> None:
    """Report runs. runs: how many, by (tenant, state); empty where another replica reports them."""

    def read() -> Iterable[Sample]:
        return [Sample(metric=POLICY_RUNS, value=number, labels=labels) for labels, number in runs().items()]

    metrics.measure([POLICY_RUNS], read)


def report_jobs(metrics: ProcessMetrics, jobs: Callable[[], Mapping[tuple[str, str], int]]) -> None:
    """Report jobs. jobs: how many, by (kind, state); empty where another replica reports them."""

    def read() -> Iterable[Sample]:
        return [Sample(metric=LAUNCHER_JOBS, value=number, labels=labels) for labels, number in jobs().items()]

    metrics.measure([LAUNCHER_JOBS], read)


def observe_job(metrics: ProcessMetrics, *, kind: str, duration_s: float) -> None:
    """Report how long a job took, at its end."""
    metrics.observe(LAUNCHER_JOB_DURATION, duration_s, kind=kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetReading:
    """One budget in one unit (`calls`, `tokens`, `nano_usd`). run: empty for a tenant's own.   limit: None = none."""

    tenant: str
    run: str
    unit: str
    limit: int | None
    spent: int
    held: int
    unknown: int


def report_budgets(metrics: ProcessMetrics, budgets: Callable[[], Iterable[BudgetReading]]) -> None:
    """Report budgets. budgets: empty where another replica reports them; raises while the ledger is away."""
    metrics.measure(list(BUDGETS.values()), lambda: [s for reading in budgets() for s in _budget_samples(reading)])


def _budget_samples(reading: BudgetReading) -> Iterable[Sample]:
    values = {"spent": reading.spent, "held": reading.held, "unknown": reading.unknown}
    if reading.limit is not None:
        values |= {"limit": reading.limit, "remaining": reading.limit - reading.spent - reading.held}
    unit, factor = ("usd", _NANO) if reading.unit == "nano_usd" else (reading.unit, 1)
    for quantity, value in values.items():
        labels = (reading.tenant, reading.run)
        yield Sample(metric=BUDGETS[quantity, unit], value=value * factor, labels=labels)
