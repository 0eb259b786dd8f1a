"""*Runs and quality*: where runs are, how good their students are, head against tail, domain by domain."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from scripts.monitoring.frame import choice, sections, titled
from scripts.monitoring.panels import Described, Panels, Query, lines, matrix, number, rows, states

UID = "baldistill-runs-quality"

_P = "baldistill_policy"
_RUNS = 'tenant=~"$tenant",run=~"$run"'


def build() -> dashboard.Dashboard:
    """Return the dashboard."""
    variables = [
        choice("tenant", label="Tenant", metric=f"{_P}_stage_number"),
        choice("run", label="Run", metric=f"{_P}_stage_number", where='tenant=~"$tenant"'),
    ]
    about = "Where runs are, and their students on the test items: macro, micro, head, tail, each domain by stage."
    return sections(
        titled(UID, title="BalDistill / Runs and quality", about=about, variables=variables),
        {"Runs": _runs(), "Quality": _quality(), "Domains": _domains()},
    )


def _runs() -> Panels:
    return [
        states(
            Described(title="Stages", about="0 = not begun; K + 1 = all stages are done.", unit="short", span=24),
            Query(expr=f"max by (tenant, run) ({_P}_stage_number{{{_RUNS}}})", legend="{{tenant}} {{run}}"),
        ),
        lines(
            Described(title="Runs by state", about="All runs of the tenants.", unit="short", span=8),
            Query(expr=f'sum by (state) ({_P}_state_runs{{tenant=~"$tenant"}})', legend="{{state}}"),
            stacked=True,
        ),
        lines(
            Described(
                title="Quiet for",
                about="Since a fact or progress of a running run; an alert at 15 min.",
                unit="s",
                span=8,
            ),
            Query(expr=f"baldistill:run_quiet:seconds{{{_RUNS}}}", legend="{{tenant}} {{run}}"),
        ),
        lines(
            Described(title="Dead letters that wait", about="All, and topics that have some.", unit="short", span=8),
            Query(expr="sum(baldistill:dead_letters:count)", legend="all"),
            Query(expr="baldistill:dead_letters:count > 0", legend="{{topic}}"),
        ),
        lines(
            Described(
                title="Seconds by step", about="Wall-clock of each step so far, waits included.", unit="s", span=24
            ),
            Query(expr=f"max by (run, step) ({_P}_step_duration_seconds{{{_RUNS}}})", legend="{{run}} {{step}}"),
            stacked=True,
        ),
    ]


def _quality() -> Panels:
    score = f"{_P}_student_score_ratio{{{_RUNS}"
    # While a stage is worked on, the newest student is that of the stage before.
    newest = f'on (run, stage) count_values by (run) ("stage", max by (run) ({_P}_stage_number{{{_RUNS}}}) - 1)'
    return [
        lines(
            Described(
                title="Macro and micro", about="Each run's newest student, over all test items.", unit="percentunit"
            ),
            Query(expr=f'max by (run, mean) ({score},group="all"}} and {newest})', legend="{{run}} {{mean}}"),
        ),
        lines(
            Described(
                title="Head against tail",
                about="Macro of both groups, each run's newest student; absent below 30 items.",
                unit="percentunit",
            ),
            Query(
                expr=f'max by (run, group) ({score},group!="all",mean="macro"}} and {newest})',
                legend="{{run}} {{group}}",
            ),
        ),
        rows(
            Described(title="Scores by stage", about="Stage 0 is the zero-shot student.", unit="percentunit"),
            Query(expr=f'max by (run, stage) ({score},group="all",mean="macro"}})', legend="macro"),
            Query(expr=f'max by (run, stage) ({score},group="all",mean="micro"}})', legend="micro"),
            Query(expr=f'max by (run, stage) ({score},group="head",mean="macro"}})', legend="head"),
            Query(expr=f'max by (run, stage) ({score},group="tail",mean="macro"}})', legend="tail"),
            by=("run", "stage"),
        ),
        number(
            Described(title="Against the best student before", about="In points; an alert at -5.", unit="percentunit"),
            Query(expr=f"baldistill:macro_score_change:ratio{{{_RUNS}}}", legend="{{run}}"),
        ),
    ]


def _domains() -> Panels:
    return [
        matrix(
            Described(title="Domains by stage", about="Each domain's score; choose one run.", unit="percentunit"),
            Query(expr=f"max by (domain, stage) ({_P}_domain_score_ratio{{{_RUNS}}})", legend="{{domain}}"),
            row="domain",
            column="stage",
        ),
        matrix(
            Described(title="Rows planned by stage", about="What the policy asks of each domain.", unit="short"),
            Query(expr=f"sum by (domain, stage) ({_P}_planned_examples{{{_RUNS}}})", legend="{{domain}}"),
            row="domain",
            column="stage",
        ),
    ]
