"""*Budget spend*: what is left, who spends it on what, and how long it lasts."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from scripts.monitoring.frame import choice, sections, titled
from scripts.monitoring.panels import Described, Panels, Query, lines, number, rows, states

UID = "baldistill-budget-spend"

_B = "baldistill_teacher_gateway_budget"
_TENANTS = 'tenant=~"$tenant",run=""'
_G = "baldistill_teacher_gateway"
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
        {
            "What is left": _left(),
            "Spent by run": _spent(),
            "Burn-down": _burn_down(),
            "Domains and answers": _domains(),
        },
    )


def _left() -> Panels:
    spent = Described(
        title="Spent", about="Share of the tenants' own ceilings; alerts at 80 and 100 %.", unit="percentunit"
    )
    return [
        number(
            spent,
            Query(expr=f"baldistill:budget_spent:ratio{{{_TENANTS}}}", legend="{{tenant}} {{unit}}"),
            orange_from=0.8,
            red_from=1.0,
        ),
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
        states(
            Described(
                title="Soft thresholds",
                about="The highest of 50, 80 and 100 % that a tenant's own budget has come to; when: `budget history`.",
                unit="percentunit",
                span=24,
            ),
            Query(expr=f"{_B}_threshold_ratio{{{_TENANTS}}}", legend="{{tenant}} {{unit}}"),
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
            Query(expr=f"sum by (tenant, run) ({_B}_spent_usd{{{_RUNS}}})", legend="USD", unit="currencyUSD"),
            by=("tenant", "run"),
        ),
        rows(
            Described(
                title="Stages of runs",
                about="Rows that the policy plans for a stage, the calls and the money that it has spent.",
                unit="short",
                span=24,
            ),
            Query(expr=f"sum by (run, stage) (baldistill_policy_planned_examples{{{_RUNS}}})", legend="planned rows"),
            Query(expr=f"sum by (run, stage) ({_G}_stage_spent_calls{{{_RUNS}}})", legend="calls spent"),
            Query(expr=f"sum by (run, stage) ({_G}_stage_spent_usd{{{_RUNS}}})", legend="USD", unit="currencyUSD"),
            by=("run", "stage"),
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
                about="What is left over the last hour's pace; absent while nothing is spent; an alert below 4 h.",
                unit="s",
            ),
            Query(expr=f"baldistill:budget_lasts:seconds{{{_TENANTS}}}", legend="{{tenant}} {{unit}}"),
            Query(expr=f"baldistill:budget_lasts:seconds{{{_RUNS}}}", legend="{{run}} {{unit}}"),
            logarithmic=True,
        ),
    ]


def _domains() -> Panels:
    return [
        rows(
            Described(
                title="Domains of a run",
                about="Rows planned, examples accepted, USD per accepted example; choose one run.",
                unit="short",
                span=24,
            ),
            Query(expr=f"sum by (run, domain) (baldistill_policy_planned_examples{{{_RUNS}}})", legend="planned"),
            Query(expr=f"sum by (run, domain) ({_G}_accepted_examples{{{_RUNS}}})", legend="accepted"),
            Query(
                expr=f"max by (run, domain) ({_G}_accepted_example_cost_usd{{{_RUNS}}})",
                legend="USD per accepted",
                unit="currencyUSD",
            ),
            by=("run", "domain"),
        ),
        lines(
            Described(title="Pace", about="USD an hour, by the ledger's last ten minutes.", unit="currencyUSD", span=8),
            Query(expr=f"max by (tenant, run) ({_B}_hourly_burn_usd{{{_RUNS}}})", legend="{{tenant}} {{run}}"),
        ),
        lines(
            Described(
                title="Rejected by reason",
                about="Paid for, never trained on; of the last hour, the first of its kind not in it.",
                unit="short",
                span=8,
            ),
            Query(
                expr=f'sum by (phase, reason) (increase({_G}_rejected_examples_total{{tenant=~"$tenant"}}[1h]))',
                legend="{{phase}} {{reason}}",
            ),
            stacked=True,
        ),
        lines(
            Described(title="Tokens by kind", about="As the teachers report them.", unit="short", span=8),
            Query(
                expr=f'sum by (direction) (rate({_G}_used_tokens_total{{tenant=~"$tenant"}}[$__rate_interval]))',
                legend="{{direction}} a second",
            ),
        ),
        lines(
            Described(
                title="Taken from other runs", about="Annotations reused instead of bought.", unit="short", span=12
            ),
            Query(expr=f'sum by (tenant) ({_G}_reused_examples_total{{tenant=~"$tenant"}})', legend="{{tenant}}"),
        ),
        lines(
            Described(title="Share rejected", about="Of the answers of an hour; an alert at 30 %.", unit="percentunit"),
            Query(expr='baldistill:rationales_rejected:ratio1h{tenant=~"$tenant"}', legend="{{tenant}}"),
        ),
    ]
