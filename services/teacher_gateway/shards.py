"""Does one shard of teacher work: asks, verifies, stores. The shard is a pure export of the ledger's replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from baldistill.artifacts.ports import JsonValue, Manifest
from baldistill.artifacts.schemas import ANNOTATIONS
from baldistill.artifacts.tables import store_table
from baldistill.errors import DependencyUnavailable
from baldistill.events.facts import AnnotationPhase
from baldistill.runtime.progress import ProgressSink
from baldistill.specs.frozen import FrozenRun
from baldistill.specs.runspec import OnExhausted
from baldistill.tasks.comparison import Comparison
from services.teacher_gateway.caller import Answered, Outcome, TeacherCaller, Unanswered
from services.teacher_gateway.errors import BudgetExhausted, TeacherFailing
from services.teacher_gateway.observing import CallObserver
from services.teacher_gateway.requests import TeacherRequest
from services.teacher_gateway.reuse import PaidAnswers, find_reusable, note_answers
from services.teacher_gateway.stages import Stage
from services.teacher_gateway.verification import NO_ROOM_FOR_REPLACEMENT, RowOutcome, VerifiedRow, unanswered, verify


def annotate_shard(
    stage: Stage,
    phase: AnnotationPhase,
    shard: int,
    *,
    caller: TeacherCaller,
    paid: PaidAnswers,
    observer: CallObserver,
    progress: ProgressSink,
) -> Manifest:
    """Ask for one shard's rows and store them; a stored answer is not asked for again, nor one that may be reused.

    Raises BudgetExhausted where the spec says to pause (nothing is stored then, the ledger keeps the answers), and
    what `TeacherCaller.ask` raises.
    """
    requests = stage.requests(phase, shard)
    reusable = find_reusable(stage.frozen, requests, paid=paid)
    outcomes = _ask_all(stage, phase, shard, requests, reusable=reusable, caller=caller, progress=progress)
    note_answers(stage.frozen, zip(requests, outcomes, strict=True), paid=paid)
    _raise_for_the_whole_shard(stage, phase, outcomes, url=caller.url)
    frozen = stage.frozen
    with frozen.task.open_comparison(frozen.spec.task.comparison_timeout_s) as compare:
        rows = [
            _row(frozen, phase, request, outcome, compare=compare)
            for request, outcome in zip(requests, outcomes, strict=True)
        ]
    key = stage.layout.annotation_shard(phase.value, shard)
    folder, _, name = key.removesuffix(".json").rpartition("/")
    file = store_table(
        stage.store, folder=folder, name=name, schema=ANNOTATIONS, rows=(row.to_table_row() for row in rows)
    )
    for row in rows:
        if row.outcome is RowOutcome.REJECTED:
            observer.rejected(tenant=frozen.spec.tenant, kind=phase.value, reason=row.reason)
    for _ in reusable:
        observer.reused(tenant=frozen.spec.tenant)
    reused = Counter(request.domain for request in requests if request.key in reusable)
    attributes: dict[str, JsonValue] = {"reused": dict(sorted(reused.items()))} if reused else {}
    return stage.store.create_manifest(
        Manifest(key=key, files={"annotations": file}, rows=file.rows, attributes=attributes)
    )


def _ask_all(
    stage: Stage,
    phase: AnnotationPhase,
    shard: int,
    requests: list[TeacherRequest],
    *,
    reusable: Mapping[str, Answered],
    caller: TeacherCaller,
    progress: ProgressSink,
) -> list[Outcome]:
    outcomes: list[Outcome] = []

    def ask(request: TeacherRequest) -> Outcome:
        return reusable.get(request.key) or caller.ask(request)

    with _threads(stage.frozen.spec.teacher.concurrency) as threads:
        for outcome in threads.map(ask, requests):
            outcomes.append(outcome)
            done = shard * stage.frozen.spec.teacher.rows_per_shard + len(outcomes)
            progress(step=phase.value, done=done, total=stage.rows(phase), unit="requests")
    return outcomes


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that stop taking new work as soon as one request raised; what is under way is still booked."""
    executor = ThreadPoolExecutor(max_workers=count, thread_name_prefix="teacher")
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _raise_for_the_whole_shard(stage: Stage, phase: AnnotationPhase, outcomes: list[Outcome], *, url: str) -> None:
    """Raise where storing the shard would take an outage, or an empty purse that is to be filled, for an answer."""
    missing = [outcome for outcome in outcomes if isinstance(outcome, Unanswered)]
    refused = next((outcome.refused for outcome in missing if outcome.refused is not None), None)
    pauses = stage.frozen.spec.budget.on_exhausted is OnExhausted.PAUSE and phase is not AnnotationPhase.REPLACE
    if refused is not None and pauses:
        raise BudgetExhausted(refused)
    if len(missing) < len(outcomes):
        return
    failed = [outcome for outcome in missing if outcome.teacher_failed]
    if any(outcome.overloaded for outcome in failed):
        raise DependencyUnavailable(dependency=f"teacher {url}", reason=f"overloaded ({failed[0].reason})")
    if failed:
        raise TeacherFailing(url=url, reason=failed[0].reason, requests=len(outcomes))


def _row(
    frozen: FrozenRun, phase: AnnotationPhase, request: TeacherRequest, outcome: Outcome, *, compare: Comparison
) -> VerifiedRow:
    if isinstance(outcome, Answered):
        return verify(
            request,
            outcome.reply.text,
            task=frozen.task,
            labels=frozen.labels,
            compare=compare,
            checks=frozen.spec.synthesis.checks,
        )
    if outcome.refused is not None and phase is AnnotationPhase.REPLACE:
        # Lost calls took the room for it: the rows that were planned are complete all the same.
        return unanswered(request, reason=NO_ROOM_FOR_REPLACEMENT)
    return unanswered(request, reason=outcome.reason)
