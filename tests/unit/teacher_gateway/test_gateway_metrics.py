"""What the gateway shows in Prometheus: calls by outcome, burn rates, what an accepted example costs."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from baldistill.telemetry.metrics import MOST_DETAILED_DOMAINS
from baldistill.telemetry.observers import BudgetReading
from baldistill.telemetry.process_metrics import ProcessMetrics
from services.teacher_gateway.ledger.holds import Booking, HoldState
from services.teacher_gateway.ports import CallEnd, CallResult
from services.teacher_gateway.purchase_metrics import (
    BurnRates,
    CountedPurchases,
    DomainOutcome,
    StageSpending,
    example_samples,
    report_burn,
    report_examples,
    report_gate,
    report_queue,
    report_stages,
)

PREFIX = "baldistill_teacher_gateway_"
USD = 1_000_000_000


@pytest.fixture
def metrics() -> ProcessMetrics:
    return ProcessMetrics(service="teacher_gateway", version="1")


def seen(metrics: ProcessMetrics) -> dict[str, float]:
    return {
        sample.name.removeprefix(PREFIX)
        + "".join(f"|{value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.page()[0].decode())
        for sample in family.samples
        if sample.name.startswith(PREFIX) and not sample.name.endswith(("_created", "_bucket"))
    }


def reading(spent_usd: float, *, run: str = "r1", unit: str = "nano_usd") -> BudgetReading:
    return BudgetReading(tenant="acme", run=run, unit=unit, limit=None, spent=int(spent_usd * USD), held=0, unknown=0)


def test_calls_are_counted_by_how_they_were_booked_and_tokens_by_direction(metrics: ProcessMetrics) -> None:
    counted = CountedPurchases(metrics)
    answered = CallResult(end=CallEnd.ANSWERED, prompt_tokens=20, completion_tokens=5)
    refused = CallResult(end=CallEnd.HTTP_ERROR, status=429)
    released = Booking(state=HoldState.RELEASED, outcome="http_429")
    unknown = Booking(state=HoldState.UNKNOWN, outcome="lost")
    for result, booking in ((answered, unknown), (answered, unknown), (refused, released)):
        counted.queued(waited_s=0.5)
        counted.ended(tenant="acme", result=result, booking=booking, duration_s=2.0)
    counted.reused(tenant="acme")
    counted.rejected(tenant="acme", kind="annotate", reason="wrong_answer")
    page = seen(metrics)
    assert page["finished_calls_total|lost|acme"] == 2
    assert page["finished_calls_total|http_429|acme"] == 1
    assert (page["used_tokens_total|prompt|acme"], page["used_tokens_total|completion|acme"]) == (40, 10)
    assert (page["call_duration_seconds_sum"], page["queue_wait_seconds_sum"]) == (6.0, 1.5)
    assert page["reused_examples_total|acme"] == page["rejected_examples_total|annotate|wrong_answer|acme"] == 1


def test_a_burn_rate_is_over_the_last_ten_minutes(metrics: ProcessMetrics) -> None:
    now_s = [0.0]
    rates = BurnRates(lambda: now_s[0])
    spent = {0: 1.0, 300: 2.0, 600: 3.0, 900: 9.0}
    burnt = []
    for moment, usd in spent.items():
        now_s[0] = float(moment)
        burnt.append([sample.value for sample in rates.of([reading(usd)])])
    # One reading says nothing; then 1 USD in 5 min, 2 in 10, and from minute 5 on 7 USD in 10 min.
    assert burnt == [[], [pytest.approx(12)], [pytest.approx(12)], [pytest.approx(42)]]
    report_burn(metrics, lambda: [reading(9.0), reading(5.0, unit="calls")], rates)
    now_s[0] = 1200.0
    assert seen(metrics) == {"budget_hourly_burn_usd|r1|acme": pytest.approx(36)}


def test_a_budgets_new_window_and_a_budget_that_is_gone_begin_anew() -> None:
    now_s = [0.0]
    rates = BurnRates(lambda: now_s[0])
    rates.of([reading(5.0), reading(1.0, run="r2")])
    now_s[0] = 60.0
    assert [sample.labels for sample in rates.of([reading(0.1)])] == []
    now_s[0] = 120.0
    assert [sample.labels for sample in rates.of([reading(0.2), reading(1.0, run="r2")])] == [("acme", "r1")]


def test_an_example_costs_what_its_domain_spent_and_one_that_has_none_has_no_cost(metrics: ProcessMetrics) -> None:
    outcomes = {
        ("acme", "r1"): {
            "billing": DomainOutcome(accepted=4, spent_nano_usd=2 * USD),
            "login": DomainOutcome(accepted=0, spent_nano_usd=USD),
        }
    }
    report_examples(metrics, lambda: outcomes)
    assert seen(metrics) == {
        "accepted_examples|billing|r1|acme": 4,
        "accepted_examples|login|r1|acme": 0,
        "accepted_example_cost_usd|billing|r1|acme": 0.5,
    }


def test_a_stage_shows_what_the_ledger_booked_for_it(metrics: ProcessMetrics) -> None:
    spending = StageSpending(tenant="acme", run_id="r1", stage=2, calls=16, nano_usd=3 * USD)
    report_stages(metrics, lambda: [spending])
    assert seen(metrics) == {"stage_spent_calls|r1|2|acme": 16, "stage_spent_usd|r1|2|acme": 3.0}


def test_of_many_domains_those_with_most_examples_are_shown() -> None:
    domains = {f"d{n}": DomainOutcome(accepted=n, spent_nano_usd=0) for n in range(MOST_DETAILED_DOMAINS + 50)}
    shown = {sample.labels[2] for sample in example_samples({("acme", "r1"): domains})}
    assert shown == {f"d{n}" for n in range(50, MOST_DETAILED_DOMAINS + 50)}


def test_the_line_and_the_teachers_left_alone_are_shown(metrics: ProcessMetrics) -> None:
    report_queue(metrics, queued=lambda: 3, open_circuits=lambda: ["http://t/v1"])
    assert seen(metrics) == {"queued_calls": 3, "open_circuits_number": 1}


def test_the_highest_soft_threshold_that_a_budget_has_come_to_is_shown(metrics: ProcessMetrics) -> None:
    def calls(spent: int, limit: int | None, run: str) -> BudgetReading:
        return BudgetReading(tenant="acme", run=run, unit="calls", limit=limit, spent=spent, held=9, unknown=0)

    readings = [calls(49, 100, "below"), calls(50, 100, "half"), calls(99, 100, "most"), calls(7, 7, "all")]
    report_burn(
        metrics, lambda: [*readings, calls(5, None, "unlimited"), calls(0, 0, "nothing")], BurnRates(lambda: 0.0)
    )
    shown = {name: value for name, value in seen(metrics).items() if name.startswith("budget_threshold_ratio")}
    assert shown == {
        "budget_threshold_ratio|below|acme|calls": 0.0,
        "budget_threshold_ratio|half|acme|calls": 0.5,
        "budget_threshold_ratio|most|acme|calls": 0.8,
        "budget_threshold_ratio|all|acme|calls": 1.0,
        "budget_threshold_ratio|nothing|acme|calls": 0.0,
    }


@pytest.mark.parametrize(("is_open", "shown"), [(True, 1.0), (False, 0.0), (None, None)])
def test_the_gate_before_all_budgets_is_shown_by_one_replica(
    metrics: ProcessMetrics, is_open: bool | None, shown: float | None
) -> None:
    report_gate(metrics, lambda: is_open)
    assert seen(metrics).get("budgets_up") == shown
