"""How policy advances runs: one fact in, the facts that follow out (DESIGN 3).

policy alone writes run state. A fact of a past stage is answered with nothing, unless that very fact brought the run to
where it is: then the answer is given again, because the first one may have been lost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import rfc8785

from baldistill.artifacts.ports import ArtifactRef, ArtifactStore, Manifest
from baldistill.datasets.storage import load_dataset
from baldistill.events.facts import (
    BaselineEvaluated,
    CeilingReached,
    Fact,
    RationalesCollected,
    RunBlocked,
    RunCompleted,
    RunFailed,
    RunPaused,
    RunState,
    RunStateChanged,
    RunSubmitted,
    StageFailed,
    StagePlanned,
    StudentTrained,
)
from baldistill.events.identity import event_id
from baldistill.specs.frozen import FrozenRun, load_frozen_run
from services.policy.planning import plan_stage
from services.policy.ports import RunRecord, RunRegistry


def on_run_submitted(event: RunSubmitted, *, registry: RunRegistry, store: ArtifactStore) -> Sequence[Fact]:
    """Answer with the current stage's plan: the first one for a new run, where it stands for a replayed one."""
    record = registry.find(tenant=event.tenant, run_id=event.run_id)
    if record is None or record.state is not RunState.RUNNING or record.epoch != event.epoch:
        return []
    frozen = load_frozen_run(store, record.spec)
    if not frozen.method.has_stages:
        return []
    if record.stage == 0:
        return _enter_stage(record, 1, cause=event, frozen=frozen, registry=registry, store=store)
    if record.stage > frozen.spec.stages:
        return []
    return [_stage_planned_again(record, frozen=frozen, store=store)]


def on_rationales_collected(
    event: RationalesCollected, *, registry: RunRegistry, store: ArtifactStore
) -> Sequence[Fact]:
    """Go on at once where the next stage's selection needs no student (DESIGN 2.6)."""
    record = _current(event, registry)
    if record is None:
        return []
    frozen = load_frozen_run(store, record.spec)
    if frozen.method.trains_every_stage or event.budget_exhausted or event.stage == frozen.spec.stages:
        return []
    return _advance(record, event, frozen=frozen, registry=registry, store=store)


def on_student_trained(event: StudentTrained, *, registry: RunRegistry, store: ArtifactStore) -> Sequence[Fact]:
    """Plan the next stage with the new student, or end the run."""
    record = _current(event, registry)
    if record is None:
        return []
    frozen = load_frozen_run(store, record.spec)
    if event.stage < frozen.spec.stages and not event.budget_exhausted:
        return _advance(record, event, frozen=frozen, registry=registry, store=store)
    done = dataclasses.replace(
        record,
        stage=frozen.spec.stages + 1,
        budget_exhausted=event.budget_exhausted,
        brought_here_by=event_id(event),
    )
    if record.stage == event.stage:
        if not registry.replace(expected=record, changed=done):
            return []
        # Read again: the baseline may have been marked since, and its handler saw an unfinished run.
        record = registry.find(tenant=event.tenant, run_id=event.run_id) or done
    return _complete(record, event, registry=registry)


def on_baseline_evaluated(event: BaselineEvaluated, *, registry: RunRegistry, store: ArtifactStore) -> Sequence[Fact]:
    """End the run where only the baseline was missing."""
    record = registry.mark_baseline(tenant=event.tenant, run_id=event.run_id)
    frozen = load_frozen_run(store, record.spec)
    if frozen.method.has_stages and record.stage <= frozen.spec.stages:
        return []
    return _complete(record, event, registry=registry)


def on_stage_failed(event: StageFailed, *, registry: RunRegistry) -> Sequence[Fact]:
    """Record a verdict about data: the run cannot succeed."""
    record = registry.find(tenant=event.tenant, run_id=event.run_id)
    if record is None or record.epoch != event.epoch:
        return []
    failed = RunFailed(**_identity(record), service=event.service, reason=event.reason)
    return _end(record, RunState.FAILED, failed, cause=event, reason=event.reason, registry=registry)


def on_ceiling_reached(event: CeilingReached, *, registry: RunRegistry) -> Sequence[Fact]:
    """Have a run wait for a top-up. Its budget is not frozen: the ceiling holds by itself."""
    record = registry.find(tenant=event.tenant, run_id=event.run_id)
    if record is None or record.epoch != event.epoch:
        return []
    paused = RunPaused(**_identity(record), reason=event.reason)
    return _end(record, RunState.PAUSED, paused, cause=event, reason=event.reason, registry=registry)


def block_run(*, event: Fact, topic: str, reason: str, registry: RunRegistry) -> Sequence[Fact]:
    """Stop a run whose event went to the dead letters; it waits for a person."""
    record = registry.find(tenant=event.tenant, run_id=event.run_id)
    if record is None or record.epoch != event.epoch:
        return []
    blocked = RunBlocked(**_identity(record), topic=topic, reason=reason)
    return _end(record, RunState.BLOCKED, blocked, cause=event, reason=reason, registry=registry)


def _current(event: Fact, registry: RunRegistry) -> RunRecord | None:
    """Return the run's record where the fact is of its current stage, or is what brought the run to where it is."""
    record = registry.find(tenant=event.tenant, run_id=event.run_id)
    if record is None or record.epoch != event.epoch:
        return None
    repeated = record.brought_here_by == event_id(event)
    return record if repeated or (record.state is RunState.RUNNING and record.stage == event.stage) else None


def _advance(
    record: RunRecord, cause: Fact, *, frozen: FrozenRun, registry: RunRegistry, store: ArtifactStore
) -> Sequence[Fact]:
    if record.stage > cause.stage:
        return [_stage_planned_again(record, frozen=frozen, store=store)]
    return _enter_stage(record, cause.stage + 1, cause=cause, frozen=frozen, registry=registry, store=store)


def _enter_stage(
    record: RunRecord, stage: int, *, cause: Fact, frozen: FrozenRun, registry: RunRegistry, store: ArtifactStore
) -> Sequence[Fact]:
    changed = dataclasses.replace(record, stage=stage, brought_here_by=event_id(cause))
    plan = _make_plan(changed, frozen=frozen, store=store)
    if not registry.replace(expected=record, changed=changed):
        return []
    return [_stage_planned(changed, plan, frozen=frozen, store=store)]


def _complete(record: RunRecord, cause: Fact, *, registry: RunRegistry) -> Sequence[Fact]:
    """End a run when both its last student and its baseline are measured; whichever came last ends it."""
    state = RunState.BUDGET_EXHAUSTED if record.budget_exhausted else RunState.COMPLETED
    completed = RunCompleted(**_identity(record), state=state)
    if record.state is state:
        return [completed] if record.brought_here_by == event_id(cause) else []
    if not record.baseline_evaluated or record.state is not RunState.RUNNING:
        return []
    return _end(record, state, completed, cause=cause, reason="", registry=registry)


def _end(
    record: RunRecord, state: RunState, outcome: Fact, *, cause: Fact, reason: str, registry: RunRegistry
) -> Sequence[Fact]:
    announced = [RunStateChanged(**_identity(record), state=state), outcome]
    if record.state is state:
        return announced if record.brought_here_by == event_id(cause) else []
    if record.state is not RunState.RUNNING:
        return []
    changed = dataclasses.replace(record, state=state, brought_here_by=event_id(cause), reason=reason)
    return announced if registry.replace(expected=record, changed=changed) else []


def _identity(record: RunRecord) -> dict[str, Any]:
    return {"tenant": record.tenant, "run_id": record.run_id, "epoch": record.epoch, "stage": record.stage}


def _stage_planned_again(record: RunRecord, *, frozen: FrozenRun, store: ArtifactStore) -> StagePlanned:
    """Answer with the current stage's plan, which was stored before the run's record moved to the stage."""
    manifest = store.find_manifest(frozen.layout.stage(record.stage).plan)
    plan = manifest.files["plan"] if manifest else _make_plan(record, frozen=frozen, store=store)
    return _stage_planned(record, plan, frozen=frozen, store=store)


def _stage_planned(record: RunRecord, plan: ArtifactRef, *, frozen: FrozenRun, store: ArtifactStore) -> StagePlanned:
    # Without a student of every stage there is none to be found: nobody asks the store for it.
    trained = frozen.method.trains_every_stage and record.stage > 1
    previous = store.find_manifest(frozen.layout.stage(record.stage - 1).student) if trained else None
    return StagePlanned(
        **_identity(record),
        spec=record.spec,
        plan=plan,
        previous_student=store.manifest_ref(previous) if previous else None,
    )


def _make_plan(record: RunRecord, *, frozen: FrozenRun, store: ArtifactStore) -> ArtifactRef:
    """Store the stage's plan, or adopt the one that is there. Source: DESIGN 5, a stage's `plan`."""
    layout, spec = frozen.layout.stage(record.stage), frozen.spec
    dataset = load_dataset(store, tenant=spec.tenant, name=frozen.dataset.name, version=frozen.dataset.version)
    plan = plan_stage(
        method=frozen.method,
        pool={name: counts.pool for name, counts in dataset.domains.items() if counts.pool},
        selected_before=_selected_before(record.stage, frozen=frozen, store=store),
        budget=spec.budget.examples,
        stages=spec.stages,
        stage=record.stage,
        seed=spec.seed,
    )
    stored = store.put_bytes(
        folder=layout.folder, name="plan.json", data=bytes(rfc8785.dumps(plan.to_json())), rows=plan.quota
    )
    manifest = store.create_manifest(Manifest(key=layout.plan, files={"plan": stored}, rows=plan.quota))
    return manifest.files["plan"]


def _selected_before(stage: int, *, frozen: FrozenRun, store: ArtifactStore) -> dict[str, int]:
    """Return the rows of each domain that the selections of earlier stages took out of the pool."""
    taken: dict[str, int] = {}
    for earlier in range(1, stage):
        selection = store.find_manifest(frozen.layout.stage(earlier).selection)
        counts = selection.attributes["selected"] if selection else {}
        assert isinstance(counts, Mapping)
        for name, count in counts.items():
            assert isinstance(count, int)
            taken[name] = taken.get(name, 0) + count
    return taken
