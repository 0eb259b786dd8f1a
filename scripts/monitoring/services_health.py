"""*Services*: calls, events, jobs, dependencies, processes, GPUs."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from scripts.monitoring.frame import choice, sections, titled
from scripts.monitoring.panels import Described, Panels, Query, lines, number, states

UID = "baldistill-services"

_JOB = 'job=~"$job"'
_G = "baldistill_teacher_gateway"
_OVER = "[$__rate_interval]"


def build() -> dashboard.Dashboard:
    """Return the dashboard."""
    about = "Rates, errors and durations of calls and events; lag, jobs, dependencies; memory, CPU and GPUs."
    return sections(
        titled(
            UID,
            title="BalDistill / Services",
            about=about,
            variables=[choice("job", label="Service", metric="baldistill_process_build_info")],
        ),
        {
            "Calls": _calls(),
            "HTTP": _http(),
            "Events": _events(),
            "Teacher": _teacher(),
            "Jobs and dependencies": _work(),
            "Processes": _processes(),
        },
    )


def _calls() -> Panels:
    return [
        lines(
            Described(title="Calls", about="gRPC calls that ended, by method.", unit="reqps", span=8),
            Query(
                expr=f"sum by (method) ({_short('method', f'rate(baldistill_rpc_handled_calls_total{{{_JOB}}}{_OVER})')})",
                legend="{{method}}",
            ),
        ),
        lines(
            Described(title="Calls that failed", about="Everything but OK, by status.", unit="reqps", span=8),
            Query(
                expr=f'sum by (code) (rate(baldistill_rpc_handled_calls_total{{{_JOB},code!="OK"}}{_OVER}))',
                legend="{{code}}",
            ),
        ),
        lines(
            Described(title="How long calls take", about="p50 and p99 over all methods but streams.", unit="s", span=8),
            *_quantiles("baldistill_rpc_call_duration_seconds", where=f'{_JOB},method!~".*Watch.*"', by=""),
        ),
    ]


def _http() -> Panels:
    return [
        lines(
            Described(title="HTTP calls", about="Of the OpenAI-compatible face, by route and status.", unit="reqps"),
            Query(
                expr=f"sum by (route, status) (rate(baldistill_http_handled_calls_total{_OVER}))",
                legend="{{route}} {{status}}",
            ),
        ),
        lines(
            Described(title="How long HTTP calls take", about="p50 and p99, the teacher's time included.", unit="s"),
            *_quantiles("baldistill_http_call_duration_seconds", where="", by=""),
        ),
    ]


def _events() -> Panels:
    return [
        lines(
            Described(title="Events handled", about="Deliveries by what became of them.", unit="ops", span=8),
            Query(
                expr=f"sum by (group, outcome) (rate(baldistill_consumer_settled_deliveries_total{{{_JOB}}}{_OVER}))",
                legend="{{group}} {{outcome}}",
            ),
        ),
        lines(
            Described(
                title="Lag", about="Events that a group has not committed; an alert at 500.", unit="short", span=8
            ),
            Query(expr="baldistill:consumer_lag:messages", legend="{{group}}"),
        ),
        lines(
            Described(
                title="Handling time",
                about="p50 and p99 from taking a delivery to its outputs being published.",
                unit="s",
                span=8,
            ),
            *_quantiles("baldistill_consumer_handling_duration_seconds", where=_JOB, by="group"),
        ),
    ]


def _teacher() -> Panels:
    return [
        lines(
            Described(
                title="Teacher calls by outcome", about="Attempts by how they were booked.", unit="reqps", span=8
            ),
            Query(expr=f"sum by (outcome) (rate({_G}_finished_calls_total{_OVER}))", legend="{{outcome}}"),
        ),
        lines(
            Described(
                title="Calls that fail", about="Of the last five minutes; an alert at 10 %.", unit="percentunit", span=8
            ),
            Query(expr="baldistill:teacher_errors:ratio5m", legend="failed"),
        ),
        lines(
            Described(
                title="How long the teacher takes", about="p50 and p99, queue and ledger excluded.", unit="s", span=8
            ),
            *_quantiles(f"{_G}_call_duration_seconds", where="", by=""),
        ),
        lines(
            Described(title="Queue", about="Calls that wait for a slot of their key.", unit="short", span=8),
            Query(expr=f"sum({_G}_queued_calls)", legend="queued"),
        ),
        lines(
            Described(title="Wait in the queue", about="p50 and p99, before anything is reserved.", unit="s", span=8),
            *_quantiles(f"{_G}_queue_wait_seconds", where="", by=""),
        ),
        lines(
            Described(
                title="Teachers left alone",
                about="Open circuits: a teacher fails and its runs wait.",
                unit="short",
                span=8,
            ),
            Query(expr=f"sum({_G}_open_circuits_number)", legend="open"),
        ),
    ]


def _work() -> Panels:
    return [
        lines(
            Described(
                title="Jobs", about="Trainings, evaluations and scorings that wait, run or failed.", unit="short"
            ),
            Query(
                expr='sum by (kind, state) (baldistill_launcher_state_jobs{state=~"open|running|failed"})',
                legend="{{kind}} {{state}}",
            ),
            stacked=True,
        ),
        lines(
            Described(title="How long jobs take", about="p50 and p99, waiting included.", unit="s"),
            *_quantiles("baldistill_launcher_job_duration_seconds", where=_JOB, by="kind"),
        ),
        states(
            Described(title="Dependencies", about="1 = answers, 0 = away.", unit="short", span=24),
            Query(expr=_short("face", "baldistill:dependency_up:min"), legend="{{face}} {{check}}"),
        ),
    ]


def _processes() -> Panels:
    return [
        number(
            Described(title="Processes up", about="Targets that Prometheus can scrape.", unit="short", span=6),
            Query(expr=f"sum(up{{{_JOB}}})", legend="up"),
        ),
        lines(
            Described(title="CPU", about="Cores used by each process.", unit="short", span=9),
            Query(
                expr=f"sum by (job, instance) (rate(process_cpu_seconds_total{{{_JOB}}}{_OVER}))",
                legend="{{job}} {{instance}}",
            ),
        ),
        lines(
            Described(title="Memory", about="Resident set of each process.", unit="bytes", span=9),
            Query(
                expr=f"sum by (job, instance) (process_resident_memory_bytes{{{_JOB}}})", legend="{{job}} {{instance}}"
            ),
        ),
        lines(
            Described(
                title="GPU",
                about="Used share of each GPU that a pod of ours holds; an alert below 5 %.",
                unit="percentunit",
                span=24,
            ),
            Query(expr="baldistill:gpu_used:ratio10m", legend="{{pod}}"),
        ),
    ]


def _short(label: str, expr: str) -> str:
    """Return an expression whose label is a gRPC name without what all of ours begin with."""
    return f'label_replace({expr}, "{label}", "$1", "{label}", "/?baldistill\\\\.v1\\\\.(.*)")'


def _quantiles(histogram: str, *, where: str, by: str) -> list[Query]:
    labels = f"le, {by}" if by else "le"
    legend = f"{{{{{by}}}}} " if by else ""
    return [
        Query(
            expr=f"histogram_quantile({quantile}, sum by ({labels}) (rate({histogram}_bucket{{{where}}}{_OVER})))",
            legend=f"{legend}p{round(quantile * 100)}",
        )
        for quantile in (0.5, 0.99)
    ]
