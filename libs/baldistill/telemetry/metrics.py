"""All metrics of every process, declared in one place (STYLE 14). docs/reference/metrics.md is made from it.

A service that wants another one declares it here, adds it to `METRICS` and emits it by `ProcessMetrics`.
"""

from __future__ import annotations

from baldistill.telemetry.declarations import Kind, Label, Metric

# The newest open runs first; further ones are left out.
MOST_REPORTED_TENANTS = 100
MOST_REPORTED_RUNS = 200
# Scores and plans by domain are many: those of the newest runs alone, of their last stages and biggest domains.
MOST_DETAILED_RUNS = 10
MOST_DETAILED_STAGES = 10
MOST_DETAILED_DOMAINS = 100

_METHOD = Label(name="method", bound="the methods that the process serves, and `unknown`", most=64)
_CODE = Label(name="code", bound="gRPC's 17 status codes", most=17)
_ROUTE = Label(name="route", bound="the face's routes, and `unknown`", most=8)
_STATUS = Label(name="status", bound="HTTP status codes that occur", most=64)
_GROUP = Label(name="group", bound="the consumer groups of the services", most=16)
_TOPIC = Label(name="topic", bound="one per fact, and its dead letters", most=64)
_OUTCOME = Label(name="outcome", bound="what a delivery can come to (runtime/outcomes.py)", most=16)
_STATE = Label(name="state", bound="the states of a run", most=8)
_TENANT = Label(name="tenant", bound="the first 100 tenants; further ones are left out", most=MOST_REPORTED_TENANTS)
_RUN = Label(
    name="run",
    bound="the newest 200 runs that are open or ended within a day, and empty",
    most=MOST_REPORTED_RUNS + 1,
)
_STAGE = Label(
    name="stage", bound="0 = zero-shot, then a run's stages; the last 10 of them", most=MOST_DETAILED_RUNS * 10
)
_DOMAIN = Label(
    name="domain",
    bound="the 100 biggest domains of each of the newest 10 runs",
    most=MOST_DETAILED_RUNS * MOST_DETAILED_DOMAINS,
)
_SCORE_GROUP = Label(name="group", bound="all, head, tail", most=3)
_MEAN = Label(name="mean", bound="macro, micro", most=2)
_FACE = Label(name="face", bound="the gRPC services of the process", most=8)
_CHECK = Label(name="check", bound="what a service needs: database, store, bus, ...", most=16)
_JOB_KIND = Label(name="kind", bound="kinds of launched work: train, evaluate, score", most=8)
_JOB_STATE = Label(name="state", bound="the states of a job", most=8)
_VERSION = Label(name="version", bound="one per process", most=1)
_SERVICE = Label(name="service", bound="one per process", most=1)

# From a lookup in memory to a unary call's longest deadline.
_CALL_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# From a duplicate to a shard of about a minute of work, and those that take too long.
_HANDLING_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0)

PROCESS_INFO = Metric(
    name="baldistill_process_build_info",
    kind=Kind.GAUGE,
    help="Always 1: which service and version this process is.",
    labels=(_SERVICE, _VERSION),
)
PROCESS_DEPENDENCY_UP = Metric(
    name="baldistill_process_dependency_up",
    kind=Kind.GAUGE,
    help="1 where what a service needs answers, 0 while it is away.",
    labels=(_FACE, _CHECK),
)

RPC_STARTED = Metric(
    name="baldistill_rpc_started_calls_total",
    kind=Kind.COUNTER,
    help="gRPC calls that arrived.",
    labels=(_METHOD,),
)
RPC_HANDLED = Metric(
    name="baldistill_rpc_handled_calls_total",
    kind=Kind.COUNTER,
    help="gRPC calls that ended, by status.",
    labels=(_METHOD, _CODE),
)
RPC_DURATION = Metric(
    name="baldistill_rpc_call_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="Seconds from a gRPC call's arrival to its end; streams last as long as they are watched.",
    labels=(_METHOD,),
    buckets=_CALL_BUCKETS_S,
)

HTTP_STARTED = Metric(
    name="baldistill_http_started_calls_total",
    kind=Kind.COUNTER,
    help="Requests to the OpenAI-compatible face that arrived.",
    labels=(_ROUTE,),
)
HTTP_HANDLED = Metric(
    name="baldistill_http_handled_calls_total",
    kind=Kind.COUNTER,
    help="Requests to the OpenAI-compatible face that ended, by status.",
    labels=(_ROUTE, _STATUS),
)
HTTP_DURATION = Metric(
    name="baldistill_http_call_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="Seconds from the arrival of a request to the OpenAI-compatible face to the last byte of its answer.",
    labels=(_ROUTE,),
    buckets=_CALL_BUCKETS_S,
)

CONSUMER_DELIVERIES = Metric(
    name="baldistill_consumer_settled_deliveries_total",
    kind=Kind.COUNTER,
    help="Deliveries of events, by what became of them.",
    labels=(_GROUP, _TOPIC, _OUTCOME),
)
CONSUMER_HANDLING = Metric(
    name="baldistill_consumer_handling_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="Seconds from taking a delivery to its outputs being published, failures included.",
    labels=(_GROUP, _TOPIC),
    buckets=_HANDLING_BUCKETS_S,
)
CONSUMER_LAG = Metric(
    name="baldistill_consumer_lag_messages",
    kind=Kind.GAUGE,
    help="Messages that a consumer group has not committed yet (topic `all`: of its topics together); each replica reports"
    " its whole group, so take `max`; absent while the broker is away.",
    labels=(_GROUP, _TOPIC),
)

POLICY_RUNS = Metric(
    name="baldistill_policy_state_runs",
    kind=Kind.GAUGE,
    help="Runs by state; reported by one replica of policy, absent while its database is away.",
    labels=(_TENANT, _STATE),
)

POLICY_STAGE = Metric(
    name="baldistill_policy_stage_number",
    kind=Kind.GAUGE,
    help="The stage that a run works on; 0 = none yet, K + 1 = all are done.",
    labels=(_TENANT, _RUN, _STATE),
    most_series=MOST_REPORTED_RUNS,
)
POLICY_STEP = Metric(
    name="baldistill_policy_step_duration_seconds",
    kind=Kind.GAUGE,
    help="Wall-clock seconds of a run's steps so far, waits and pauses included: `select` and `train` (with evaluation) are the"
    " student's device, so with one GPU their sum by the run's accepted examples is GPU-seconds per accepted example.",
    labels=(_TENANT, _RUN, Label(name="step", bound="evaluate, select, annotate, train", most=4)),
    most_series=MOST_DETAILED_RUNS * 4,
)
POLICY_QUIET = Metric(
    name="baldistill_policy_quiet_seconds",
    kind=Kind.GAUGE,
    help="Seconds since a fact or progress of a running run was seen, or since this replica of policy started.",
    labels=(_TENANT, _RUN),
    most_series=MOST_REPORTED_RUNS,
)
POLICY_LETTERS = Metric(
    name="baldistill_policy_waiting_letters",
    kind=Kind.GAUGE,
    help="Dead letters that were not replayed yet, by the topic of the event.",
    labels=(_TOPIC,),
)
_DETAILED_STAGES = MOST_DETAILED_RUNS * MOST_DETAILED_STAGES
POLICY_SCORE = Metric(
    name="baldistill_policy_student_score_ratio",
    kind=Kind.GAUGE,
    help="A stage's student on the test items, 0 to 1: mean over domains (macro) or items (micro); absent below 30 items.",
    labels=(_TENANT, _RUN, _STAGE, _SCORE_GROUP, _MEAN),
    most_series=_DETAILED_STAGES * 6,
)
POLICY_SCORE_CHANGE = Metric(
    name="baldistill_policy_student_score_change_ratio",
    kind=Kind.GAUGE,
    help="The macro score of a run's newest student less that of its best student before; absent with the first.",
    labels=(_TENANT, _RUN),
    most_series=MOST_DETAILED_RUNS,
)
POLICY_DOMAIN_SCORE = Metric(
    name="baldistill_policy_domain_score_ratio",
    kind=Kind.GAUGE,
    help="A stage's student on a domain's test items, 0 to 1; absent without items.",
    labels=(_TENANT, _RUN, _STAGE, _DOMAIN, _SCORE_GROUP),
    most_series=_DETAILED_STAGES * MOST_DETAILED_DOMAINS,
)
POLICY_PLANNED = Metric(
    name="baldistill_policy_planned_examples",
    kind=Kind.GAUGE,
    help="Training rows that a stage's plan asks of a domain.",
    labels=(_TENANT, _RUN, _STAGE, _DOMAIN),
    most_series=_DETAILED_STAGES * MOST_DETAILED_DOMAINS,
)

LAUNCHER_JOBS = Metric(
    name="baldistill_launcher_state_jobs",
    kind=Kind.GAUGE,
    help="Launched jobs (training, evaluation, scoring) by state; reported by one replica of those who do them, absent"
    " while the database is away.",
    labels=(_JOB_KIND, _JOB_STATE),
)
LAUNCHER_JOB_DURATION = Metric(
    name="baldistill_launcher_job_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="Seconds from a job's launch to its end, done or failed, waiting included.",
    labels=(_JOB_KIND,),
    # From a test's training to a night's.
    buckets=(1.0, 10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0),
)

BUDGET_UNITS = ("calls", "tokens", "usd")
_BUDGET_HELP = {
    "limit": "the ceiling; absent where there is none",
    "spent": "what is spent",
    "held": "what is reserved for calls under way",
    "unknown": "the part of what is spent that is booked at the bound, as nobody knows what became of the call",
    "remaining": "the ceiling less spent and held; absent where there is no ceiling",
}
BUDGET_QUANTITIES = tuple(_BUDGET_HELP)
# By quantity and unit, e.g. `baldistill_teacher_gateway_budget_spent_usd`. From the ledger itself, by one replica at a
# time; while the database is away the series are absent, never stale (DESIGN 4).
BUDGETS: dict[tuple[str, str], Metric] = {
    (quantity, unit): Metric(
        name=f"baldistill_teacher_gateway_budget_{quantity}_{unit}",
        kind=Kind.GAUGE,
        help=f"A run's budget in {unit}: {meaning}. An empty run is the tenant's own budget, which its"
        " runs are counted in as well.",
        labels=(_TENANT, _RUN),
    )
    for quantity, meaning in _BUDGET_HELP.items()
    for unit in BUDGET_UNITS
}

BUDGET_BURN = Metric(
    name="baldistill_teacher_gateway_budget_hourly_burn_usd",
    kind=Kind.GAUGE,
    help="USD an hour that a budget spends, over the last 10 minutes of the ledger; an empty run is the tenant's own budget."
    " `remaining_usd` by this is the hours that are left. Absent where the budget has been read once only.",
    labels=(_TENANT, _RUN),
)
_BUDGET_UNIT = Label(name="unit", bound="calls, tokens, usd", most=3)
BUDGET_THRESHOLD = Metric(
    name="baldistill_teacher_gateway_budget_threshold_ratio",
    kind=Kind.GAUGE,
    help="The highest soft threshold of a budget's ceiling (0.5, 0.8, 1) that its spending has come to, 0 below the first;"
    " absent where there is no ceiling. When it was reached is in the audit trail (`budget history`).",
    labels=(_TENANT, _RUN, _BUDGET_UNIT),
    most_series=3 * (MOST_REPORTED_TENANTS + MOST_REPORTED_RUNS),
)
BUDGETS_UP = Metric(
    name="baldistill_teacher_gateway_budgets_up",
    kind=Kind.GAUGE,
    help="1 where budgets may be used, 0 while all are frozen: the database was restored, or an operator said so.",
)
_CALL_OUTCOME = Label(
    name="outcome",
    bound="how a call was booked: answered, answered_without_usage, lost, never_sent, http_<status>",
    most=32,
)
GATEWAY_CALLS = Metric(
    name="baldistill_teacher_gateway_finished_calls_total",
    kind=Kind.COUNTER,
    help="Attempts that were sent to a teacher, by how they were booked. Of this process since its start: what is spent is"
    " the ledger's to say.",
    labels=(_TENANT, _CALL_OUTCOME),
)
GATEWAY_TOKENS = Metric(
    name="baldistill_teacher_gateway_used_tokens_total",
    kind=Kind.COUNTER,
    help="Tokens that teachers reported with their answers.",
    labels=(_TENANT, Label(name="direction", bound="prompt, completion", most=2)),
)
GATEWAY_CALL_DURATION = Metric(
    name="baldistill_teacher_gateway_call_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="Seconds from sending an attempt to its end, answered or not; queue and ledger excluded.",
    # From a teacher on the loopback to one that thinks for long.
    buckets=(0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0),
)
GATEWAY_QUEUE_WAIT = Metric(
    name="baldistill_teacher_gateway_queue_wait_seconds",
    kind=Kind.HISTOGRAM,
    help="Seconds that an attempt waited for a slot of its key, before anything was reserved for it.",
    buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 600.0),
)
GATEWAY_QUEUE = Metric(
    name="baldistill_teacher_gateway_queued_calls",
    kind=Kind.GAUGE,
    help="Calls of this process that wait for a slot of their key.",
)
GATEWAY_CIRCUITS = Metric(
    name="baldistill_teacher_gateway_open_circuits_number",
    kind=Kind.GAUGE,
    help="Teachers that this process leaves alone because they fail; their runs wait.",
)
GATEWAY_REJECTED = Metric(
    name="baldistill_teacher_gateway_rejected_examples_total",
    kind=Kind.COUNTER,
    help="Replies that were paid for and are not trained on, by phase and reason; near-duplicates are found at the end of a"
    " stage and counted once, whoever ends it.",
    labels=(
        _TENANT,
        Label(name="phase", bound="annotate, synthesise, replace, judge", most=4),
        Label(name="reason", bound="why rows are rejected (verification.py, judging.py)", most=16),
    ),
)
GATEWAY_REUSED = Metric(
    name="baldistill_teacher_gateway_reused_examples_total",
    kind=Kind.COUNTER,
    help="Annotations that were taken from other runs of the tenant instead of bought.",
    labels=(_TENANT,),
)
GATEWAY_ACCEPTED = Metric(
    name="baldistill_teacher_gateway_accepted_examples",
    kind=Kind.GAUGE,
    help="Replies of a run's closed stages that are trained on, by domain; reported by one replica.",
    labels=(_TENANT, _RUN, _DOMAIN),
    most_series=MOST_DETAILED_RUNS * MOST_DETAILED_DOMAINS,
)
GATEWAY_STAGE_CALLS = Metric(
    name="baldistill_teacher_gateway_stage_spent_calls",
    kind=Kind.GAUGE,
    help="Paid calls of a run's stage, by the ledger; reported by one replica.",
    labels=(_TENANT, _RUN, _STAGE),
    most_series=_DETAILED_STAGES,
)
GATEWAY_STAGE_USD = Metric(
    name="baldistill_teacher_gateway_stage_spent_usd",
    kind=Kind.GAUGE,
    help="USD that a run's stage has spent, by the ledger; reported by one replica.",
    labels=(_TENANT, _RUN, _STAGE),
    most_series=_DETAILED_STAGES,
)
GATEWAY_EXAMPLE_COST = Metric(
    name="baldistill_teacher_gateway_accepted_example_cost_usd",
    kind=Kind.GAUGE,
    help="USD that a domain of a run has spent, by accepted example: what was rejected or lost, and what the stage at hand has"
    " bought so far, is in it; reported by one replica.",
    labels=(_TENANT, _RUN, _DOMAIN),
    most_series=MOST_DETAILED_RUNS * MOST_DETAILED_DOMAINS,
)

METRICS: tuple[Metric, ...] = (
    PROCESS_INFO,
    PROCESS_DEPENDENCY_UP,
    RPC_STARTED,
    RPC_HANDLED,
    RPC_DURATION,
    HTTP_STARTED,
    HTTP_HANDLED,
    HTTP_DURATION,
    CONSUMER_DELIVERIES,
    CONSUMER_HANDLING,
    CONSUMER_LAG,
    POLICY_RUNS,
    POLICY_STAGE,
    POLICY_STEP,
    POLICY_QUIET,
    POLICY_LETTERS,
    POLICY_SCORE,
    POLICY_SCORE_CHANGE,
    POLICY_DOMAIN_SCORE,
    POLICY_PLANNED,
    LAUNCHER_JOBS,
    LAUNCHER_JOB_DURATION,
    *BUDGETS.values(),
    BUDGET_BURN,
    BUDGET_THRESHOLD,
    BUDGETS_UP,
    GATEWAY_CALLS,
    GATEWAY_TOKENS,
    GATEWAY_CALL_DURATION,
    GATEWAY_QUEUE_WAIT,
    GATEWAY_QUEUE,
    GATEWAY_CIRCUITS,
    GATEWAY_REJECTED,
    GATEWAY_REUSED,
    GATEWAY_ACCEPTED,
    GATEWAY_STAGE_CALLS,
    GATEWAY_STAGE_USD,
    GATEWAY_EXAMPLE_COST,
)
