"""How the gateway answers facts: fan-outs of annotation, then synthesis, then replacements, each closed once (DESIGN 2, 3).

Synthesis waits for annotation because its demonstrations prefer what was accepted; what it lacks in the end is asked for
once more, where the budget has room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.events.facts import (
    AnnotationPhase,
    AnnotationShardPlanned,
    CeilingReached,
    ExamplesSelected,
    Fact,
    RationalesCollected,
    RunSubmitted,
    ShardAnnotated,
    StageFailed,
)
from baldistill.events.identity import event_id
from baldistill.runtime.fanout import first_in_lanes, next_in_lane
from baldistill.runtime.progress import ProgressSource
from baldistill.specs.frozen import FrozenRun, load_frozen_run
from services.teacher_gateway.batches import close_batch, failure_of, near_duplicates_of
from services.teacher_gateway.caller import TeacherCaller
from services.teacher_gateway.errors import BudgetExhausted
from services.teacher_gateway.observing import CallObserver
from services.teacher_gateway.ports import Ledger
from services.teacher_gateway.replacing import open_replacements
from services.teacher_gateway.reuse import PaidAnswers
from services.teacher_gateway.run_budgets import ensure_run_budget
from services.teacher_gateway.shards import annotate_shard
from services.teacher_gateway.stages import Stage


def on_run_submitted(event: RunSubmitted, *, store: ArtifactStore, ledger: Ledger) -> Sequence[Fact]:
    """Make the run's budget; the stages follow from policy."""
    ensure_run_budget(ledger, load_frozen_run(store, event.spec))
    return []


def on_examples_selected(event: ExamplesSelected, *, store: ArtifactStore, ledger: Ledger) -> Sequence[Fact]:
    """Open the stage's teacher work, or take it up where it is.

    Redelivered: the batch where there is one; where all shards are stored, this event closes what is open itself.
    """
    stage = Stage.load(store, spec=event.spec, plan=event.plan, selection=event.selection)
    ensure_run_budget(ledger, stage.frozen)
    if (batch := store.find_manifest(stage.layout.batch)) is not None:
        return [_stage_closed(event, batch)]
    planned = _missing_shards(event, stage, AnnotationPhase.ANNOTATE)
    if planned:
        return planned
    if stage.shards(AnnotationPhase.ANNOTATE):
        close_annotations(stage, closed_by=event_id(event))
    planned = _missing_shards(event, stage, AnnotationPhase.SYNTHESISE)
    if planned:
        return planned
    open_replacements(stage, closed_by=event_id(event))
    planned = _missing_shards(event, stage, AnnotationPhase.REPLACE)
    return planned or [_stage_closed(event, close_batch(stage, closed_by=event_id(event)))]


def on_annotation_shard_planned(
    event: AnnotationShardPlanned,
    *,
    store: ArtifactStore,
    ledger: Ledger,
    caller_for: Callable[[FrozenRun], TeacherCaller],
    paid: PaidAnswers,
    observer: CallObserver,
    progress: ProgressSource,
) -> Sequence[Fact]:
    """Ask the teacher for one shard, unless it is stored already.

    An empty purse that is to be filled is no failure: the stage stays open and the run waits (DESIGN 2).
    """
    stage = Stage.load(store, spec=event.spec, plan=event.plan, selection=event.selection)
    stored = stage.find_shard(event.phase, event.shard)
    if stored is None:
        ensure_run_budget(ledger, stage.frozen)
        caller = caller_for(stage.frozen)
        try:
            stored = annotate_shard(
                stage,
                event.phase,
                event.shard,
                caller=caller,
                paid=paid,
                observer=observer,
                progress=progress(event),
            )
        except BudgetExhausted as exhausted:
            identity = {name: getattr(event, name) for name in ("tenant", "run_id", "epoch", "stage")}
            return [CeilingReached(**identity, reason=str(exhausted))]
    return [
        ShardAnnotated(
            **_stage_identity(event),
            shard=event.shard,
            shards=event.shards,
            phase=event.phase,
            annotations=stored.files["annotations"],
        )
    ]


def on_shard_annotated(event: ShardAnnotated, *, store: ArtifactStore, observer: CallObserver) -> Sequence[Fact]:
    """Plan the next shard of the lane; the event that sees all shards of its phase stored closes the phase."""
    stage = Stage.load(store, spec=event.spec, plan=event.plan, selection=event.selection)
    if (batch := store.find_manifest(stage.layout.batch)) is not None:
        return _answer_if_closed_by(event, batch)
    following = next_in_lane(
        after=event.shard,
        shards=event.shards,
        window=stage.frozen.spec.selection.shards_in_flight,
        is_stored=lambda shard: stage.is_stored(event.phase, shard),
    )
    if following is not None:
        return [_shard_planned(event, phase=event.phase, shard=following, shards=event.shards)]
    if not all(stage.is_stored(event.phase, shard) for shard in range(event.shards)):
        return []
    return _after_phase(event, stage, observer=observer)


def _after_phase(event: ShardAnnotated, stage: Stage, *, observer: CallObserver) -> Sequence[Fact]:
    """Open what follows a phase whose shards are all stored, or close the stage; each once, by the event that did it."""
    mine = event_id(event)
    if event.phase is AnnotationPhase.ANNOTATE:
        closed = close_annotations(stage, closed_by=mine)
        if closed.attributes["closed_by"] != mine:
            return []
        if planned := _missing_shards(event, stage, AnnotationPhase.SYNTHESISE):
            return planned
    if event.phase is not AnnotationPhase.REPLACE:
        ordered = open_replacements(stage, closed_by=mine)
        planned = _missing_shards(event, stage, AnnotationPhase.REPLACE)
        if ordered is not None and planned:
            return planned if ordered.attributes["closed_by"] == mine else []
    batch = close_batch(stage, closed_by=mine)
    if batch.attributes["closed_by"] == mine:
        for reason in near_duplicates_of(batch):
            observer.rejected(tenant=event.tenant, kind="judge", reason=reason)
    return _answer_if_closed_by(event, batch)


def close_annotations(stage: Stage, *, closed_by: str) -> Manifest:
    """Record that all real examples are answered, or adopt the record that another event made."""
    found = [
        stage.find_shard(AnnotationPhase.ANNOTATE, shard) for shard in range(stage.shards(AnnotationPhase.ANNOTATE))
    ]
    shards = [manifest for manifest in found if manifest is not None]
    assert len(shards) == len(found), "asked to close a phase that is not complete"
    return stage.store.create_manifest(
        Manifest(
            key=stage.layout.annotations_closed,
            files={f"{number:05d}": manifest.files["annotations"] for number, manifest in enumerate(shards)},
            rows=sum(manifest.rows for manifest in shards),
            attributes={"closed_by": closed_by},
        )
    )


def _answer_if_closed_by(event: ShardAnnotated, batch: Manifest) -> Sequence[Fact]:
    return [_stage_closed(event, batch)] if batch.attributes["closed_by"] == event_id(event) else []


def _stage_closed(event: ExamplesSelected | ShardAnnotated, batch: Manifest) -> Fact:
    identity = {name: getattr(event, name) for name in ("tenant", "run_id", "epoch", "stage")}
    failure = failure_of(batch, stage=event.stage)
    if failure is not None:
        return StageFailed(**identity, service="teacher_gateway", reason=failure)
    exhausted = bool(batch.attributes["budget_exhausted"])
    return RationalesCollected(**identity, spec=event.spec, batch=batch.files["batch"], budget_exhausted=exhausted)


def _missing_shards(
    event: ExamplesSelected | ShardAnnotated, stage: Stage, phase: AnnotationPhase
) -> Sequence[AnnotationShardPlanned]:
    shards = stage.shards(phase)
    missing = first_in_lanes(
        shards=shards,
        window=stage.frozen.spec.selection.shards_in_flight,
        is_stored=lambda shard: stage.is_stored(phase, shard),
    )
    return [_shard_planned(event, phase=phase, shard=shard, shards=shards) for shard in missing]


def _shard_planned(
    event: ExamplesSelected | ShardAnnotated, *, phase: AnnotationPhase, shard: int, shards: int
) -> AnnotationShardPlanned:
    return AnnotationShardPlanned(**_stage_identity(event), phase=phase, shard=shard, shards=shards)


def _stage_identity(event: ExamplesSelected | AnnotationShardPlanned | ShardAnnotated) -> dict[str, Any]:
    return {
        "tenant": event.tenant,
        "run_id": event.run_id,
        "epoch": event.epoch,
        "stage": event.stage,
        "spec": event.spec,
        "plan": event.plan,
        "selection": event.selection,
    }
