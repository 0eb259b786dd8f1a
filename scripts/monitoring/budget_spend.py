"""*Budget spend*: what is left, who spends it on what, and how long it lasts."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from scripts.monitoring.frame import choice, sections, titled
from scripts.monitoring.panels import Described, Panels, Query, lines, number, rows

UID = "baldistill-budget-spend"

_B = "baldistill_teacher_gateway_budget"
_TENANTS = 'tenant=~"$tenant",run=""'
_RUNS = 'tenant=~"$tenant",run=~"$run",run!=""'


def build() -> dashboard.Dashboard:
    """Return the dashboard."""
    variables = [
        choice("tenant", label="Tenant", metric=f"{_B}_spent_calls"),
        choice("run", label="Run", metric=f"{_B}_spent_calls", where='tenant=~"$tenant",run!=""'),
    ]
    about = "Budgets from the ledger itself: limit, spent, held and unknown, per tenant and run; plans against spend."
    return sections(
        titled(UID, title="BalDistill / Budget spend", about=about, variables=variables),
        {"What is left": _left(), "Spent by run": _spent(), "Burn-down": _burn_down()},
    )


def _left() -> Panels:
    spent = Described(
        title="Spent", about="Share of the tenants' own ceilings; alerts at 80 and 100 %.", unit="percentunit"
    )
    return [
        number(spent, Query(expr=f"baldistill:budget_spent:ratio{{{_TENANTS}}}", legend="{{tenant}} {{unit}}")),
        number(
            Described(title="Left in USD", about="Limit less spent and held.", unit="currencyUSD", span=6),
            Query(expr=f"sum({_B}_remaining_usd{{{_TENANTS}}})", legend="left"),
        ),
        number(
            Described(
                title="Unknown calls", about="Booked at the bound, as nobody knows their end.", unit="short", span=6
            ),
            Query(expr=f"sum({_B}_unknown_calls{{{_RUNS}}})", legend="unknown"),
        ),
    ]


def _spent() -> Panels:
    runs = Described(
        title="Budgets of runs",
        about="`spent` equals `baldistill budget show`; planned is the ceiling of the run's frozen spec.",
        unit="short",
        span=24,
    )
    return [
        lines(
            Described(title="Calls spent by run", about="From the ledger, by one replica.", unit="short"),
            Query(expr=f"sum by (tenant, run) ({_B}_spent_calls{{{_RUNS}}})", legend="{{tenant}} {{run}}"),
            stacked=True,
        ),
        lines(
            Described(title="USD spent by run", about="Each call is rounded up once.", unit="currencyUSD"),
            Query(expr=f"sum by (tenant, run) ({_B}_spent_usd{{{_RUNS}}})", legend="{{tenant}} {{run}}"),
            stacked=True,
        ),
        rows(
            runs,
            Query(expr=f"sum by (tenant, run) ({_B}_limit_calls{{{_RUNS}}})", legend="planned calls"),
            Query(expr=f"sum by (tenant, run) ({_B}_spent_calls{{{_RUNS}}})", legend="spent"),
            Query(expr=f"sum by (tenant, run) ({_B}_held_calls{{{_RUNS}}})", legend="held"),
            Query(expr=f"sum by (tenant, run) ({_B}_unknown_calls{{{_RUNS}}})", legend="unknown"),
            Query(expr=f"sum by (tenant, run) ({_B}_spent_tokens{{{_RUNS}}})", legend="tokens"),
            Query(expr=f"sum by (tenant, run) ({_B}_spent_usd{{{_RUNS}}})", legend="USD"),
            by=("tenant", "run"),
        ),
    ]


def _burn_down() -> Panels:
    return [
        lines(
            Described(
                title="Left, with forecast", about="Forecast: the last hour's pace, two hours ahead.", unit="short"
            ),
            Query(expr=f"sum by (tenant, run) ({_B}_remaining_calls{{{_RUNS}}})", legend="{{run}} left"),
            Query(
                expr=f"clamp_min(predict_linear({_B}_remaining_calls{{{_RUNS}}}[1h], 7200), 0)",
                legend="{{run}} in two hours",
            ),
        ),
        lines(
            Described(
                title="It lasts",
                about="What is left over the last hour's pace; absent while nothing is spent.",
                unit="s",
            ),
            Query(expr='baldistill:budget_lasts:seconds{tenant=~"$tenant"}', legend="{{tenant}} {{run}} {{unit}}"),
        ),
    ]
