"""What the gateway shows in Prometheus beside its budgets: calls, queues, rejections, and what an example costs (DESIGN 4)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from baldistill.telemetry.declarations import Sample
from baldistill.telemetry.metrics import (
    BUDGET_BURN,
    BUDGET_THRESHOLD,
    BUDGETS_UP,
    GATEWAY_ACCEPTED,
    GATEWAY_CALL_DURATION,
    GATEWAY_CALLS,
    GATEWAY_CIRCUITS,
    GATEWAY_EXAMPLE_COST,
    GATEWAY_QUEUE,
    GATEWAY_QUEUE_WAIT,
    GATEWAY_REJECTED,
    GATEWAY_REUSED,
    GATEWAY_STAGE_CALLS,
    GATEWAY_STAGE_USD,
    GATEWAY_TOKENS,
    MOST_DETAILED_DOMAINS,
)
from baldistill.telemetry.observers import BudgetReading
from baldistill.telemetry.process_metrics import ProcessMetrics
from services.teacher_gateway.ledger.holds import Booking
from services.teacher_gateway.ledger.thresholds import threshold_reached
from services.teacher_gateway.ports import CallResult

_NANO = 1e-9
_HOUR_S = 3600.0
# Long against a scrape interval and a call, short against a run: what is spent now, not on average.
_BURN_OVER_S = 600.0


class Turn(Protocol):
    """Tells whether this replica is the one that reports (database/turns.py)."""

    @property
    def is_ours(self) -> bool: ...


class CountedPurchases:
    """A CallObserver over a process's metrics."""

    def __init__(self, metrics: ProcessMetrics) -> None:
        self._metrics = metrics

    def queued(self, *, waited_s: float) -> None:
        self._metrics.observe(GATEWAY_QUEUE_WAIT, waited_s)

    def ended(self, *, tenant: str, result: CallResult, booking: Booking, duration_s: float) -> None:
        self._metrics.count(GATEWAY_CALLS, tenant=tenant, outcome=booking.outcome)
        self._metrics.observe(GATEWAY_CALL_DURATION, duration_s)
        for direction, tokens in (("prompt", result.prompt_tokens), ("completion", result.completion_tokens)):
            if tokens:
                self._metrics.count(GATEWAY_TOKENS, by=tokens, tenant=tenant, direction=direction)

    def reused(self, *, tenant: str) -> None:
        self._metrics.count(GATEWAY_REUSED, tenant=tenant)

    def rejected(self, *, tenant: str, kind: str, reason: str) -> None:
        self._metrics.count(GATEWAY_REJECTED, tenant=tenant, phase=kind, reason=reason)


class BurnRates:
    """USD an hour of each budget, from what the ledger said over the last ten minutes. One thread at a time.

    A budget is absent until it was read twice. Where a window ended in between, its new counter begins anew.
    """

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._seen: dict[tuple[str, str], deque[tuple[float, int]]] = {}

    def of(self, readings: Sequence[BudgetReading]) -> list[Sample]:
        """Note the newest readings; return the rates. Budgets that are not read any more are forgotten."""
        now_s = self._monotonic_s()
        money = {(one.tenant, one.run): one.spent for one in readings if one.unit == "nano_usd"}
        self._seen = {budget: self._seen.get(budget, deque()) for budget in money}
        return [sample for budget, spent in money.items() for sample in self._rate(budget, spent, now_s=now_s)]

    def _rate(self, budget: tuple[str, str], spent: int, *, now_s: float) -> Iterable[Sample]:
        seen = self._seen[budget]
        if seen and spent < seen[-1][1]:
            seen.clear()
        # One reading that is older than the span stays, so that the rate is over all of it.
        while len(seen) > 1 and seen[1][0] <= now_s - _BURN_OVER_S:
            seen.popleft()
        if seen and now_s > seen[0][0]:
            began_s, before = seen[0]
            yield Sample(
                metric=BUDGET_BURN, value=(spent - before) * _NANO * _HOUR_S / (now_s - began_s), labels=budget
            )
        seen.append((now_s, spent))


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainOutcome:
    """One domain of one run, all stages together. spent_nano_usd: of its budget, with what was rejected and unknown."""

    accepted: int
    spent_nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpending:
    """What one stage of one run has spent, with what was rejected and unknown."""

    tenant: str
    run_id: str
    stage: int
    calls: int
    nano_usd: int


def example_samples(outcomes: Mapping[tuple[str, str], Mapping[str, DomainOutcome]]) -> Iterable[Sample]:
    """Return accepted examples and the cost of one, by run (tenant, run id) and its biggest domains."""
    for who, domains in outcomes.items():
        biggest = sorted(domains.items(), key=lambda one: (-one[1].accepted, one[0]))[:MOST_DETAILED_DOMAINS]
        for name, domain in biggest:
            yield Sample(metric=GATEWAY_ACCEPTED, value=domain.accepted, labels=(*who, name))
            if domain.accepted:
                cost_usd = domain.spent_nano_usd * _NANO / domain.accepted
                yield Sample(metric=GATEWAY_EXAMPLE_COST, value=cost_usd, labels=(*who, name))


def report_burn(metrics: ProcessMetrics, budgets: Callable[[], Sequence[BudgetReading]], rates: BurnRates) -> None:
    """Report burn rates and soft thresholds. budgets: empty where another replica reports; raises while the ledger is away."""
    alone = threading.Lock()

    def read() -> Iterable[Sample]:
        with alone:
            readings = budgets()
            return [*rates.of(readings), *threshold_samples(readings)]

    metrics.measure([BUDGET_BURN, BUDGET_THRESHOLD], read)


def threshold_samples(readings: Sequence[BudgetReading]) -> Iterable[Sample]:
    """Return how far each budget with a ceiling has come."""
    for one in readings:
        if one.limit is not None:
            percent = threshold_reached(spent=one.spent, ceiling=one.limit)
            unit = "usd" if one.unit == "nano_usd" else one.unit
            yield Sample(metric=BUDGET_THRESHOLD, value=percent / 100, labels=(one.tenant, one.run, unit))


def report_gate(metrics: ProcessMetrics, is_open: Callable[[], bool | None]) -> None:
    """Report the gate before all budgets. is_open: None where another replica reports; raises while the ledger is away."""

    def read() -> Iterable[Sample]:
        stands = is_open()
        return [] if stands is None else [Sample(metric=BUDGETS_UP, value=stands)]

    metrics.measure([BUDGETS_UP], read)


def report_examples(
    metrics: ProcessMetrics, outcomes: Callable[[], Mapping[tuple[str, str], Mapping[str, DomainOutcome]]]
) -> None:
    """Report what runs have got for their money. outcomes: as `report_burn` has its budgets."""
    metrics.measure([GATEWAY_ACCEPTED, GATEWAY_EXAMPLE_COST], lambda: list(example_samples(outcomes())))


def report_stages(metrics: ProcessMetrics, spending: Callable[[], Sequence[StageSpending]]) -> None:
    """Report what stages have spent. spending: as `report_burn` has its budgets."""

    def read() -> Iterable[Sample]:
        for one in spending():
            labels = (one.tenant, one.run_id, str(one.stage))
            yield Sample(metric=GATEWAY_STAGE_CALLS, value=one.calls, labels=labels)
            yield Sample(metric=GATEWAY_STAGE_USD, value=one.nano_usd * _NANO, labels=labels)

    metrics.measure([GATEWAY_STAGE_CALLS, GATEWAY_STAGE_USD], lambda: list(read()))


def report_queue(
    metrics: ProcessMetrics, *, queued: Callable[[], int], open_circuits: Callable[[], Sequence[str]]
) -> None:
    """Report this process's own line and the teachers that it leaves alone."""
    metrics.measure([GATEWAY_QUEUE], lambda: [Sample(metric=GATEWAY_QUEUE, value=queued())])
    metrics.measure([GATEWAY_CIRCUITS], lambda: [Sample(metric=GATEWAY_CIRCUITS, value=len(open_circuits()))])
