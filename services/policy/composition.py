"""Builds policy: the only place where its adapters are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import sqlalchemy as sa

from baldistill.artifacts.ports import ArtifactStore
from baldistill.events.dead_letters import DeadLetter
from baldistill.events.facts import (
    FACTS,
    BaselineEvaluated,
    CeilingReached,
    ExamplesSelected,
    Fact,
    ProgressReported,
    RationalesCollected,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStateChanged,
    RunSubmitted,
    StageFailed,
    StagePlanned,
    StudentTrained,
)
from baldistill.runtime.consumer import DeadLetterWatch
from baldistill.runtime.handlers import ConsumerGroup, Handler
from services.policy.adapters.sql_letters import SqlDeadLetterBox
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.handlers import (
    block_run,
    on_baseline_evaluated,
    on_ceiling_reached,
    on_rationales_collected,
    on_run_submitted,
    on_stage_failed,
    on_student_trained,
)
from services.policy.letters import DeadLetterBox, kept_letter
from services.policy.ports import RunRegistry

CLOSING_FACTS = (RunCompleted, RunCancelled, RunFailed)

# policy writes run state itself, and progress is lossy: neither can stop a run.
_NEVER_BLOCKING = (RunStateChanged, ProgressReported)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyService:
    """The composed service: its consumer group, the dead letters it reads, and where runs and letters are kept."""

    group: ConsumerGroup
    dead_letters: DeadLetterWatch
    registry: RunRegistry
    letters: DeadLetterBox


def build_policy(*, store: ArtifactStore, engine: sa.Engine, now: Callable[[], datetime]) -> PolicyService:
    """Wire policy's handlers. now: aware UTC time, for the timeline only."""
    registry, letters = SqlRunRegistry(engine), SqlDeadLetterBox(engine)

    def seen(handler: Handler) -> Handler:
        def record_and_handle(fact: Fact) -> Sequence[Fact]:
            # Only how long a run has been closed decides anything; the rest is told in reports.
            registry.record_fact(fact, at=now(), durable=isinstance(fact, CLOSING_FACTS))
            return handler(fact)

        return record_and_handle

    def nothing_follows(_fact: Fact) -> Sequence[Fact]:
        return []

    handlers: dict[type[Fact], Handler] = {
        RunSubmitted: partial(on_run_submitted, registry=registry, store=store),
        StagePlanned: nothing_follows,
        ExamplesSelected: nothing_follows,
        RationalesCollected: partial(on_rationales_collected, registry=registry, store=store),
        StudentTrained: partial(on_student_trained, registry=registry, store=store),
        BaselineEvaluated: partial(on_baseline_evaluated, registry=registry, store=store),
        StageFailed: partial(on_stage_failed, registry=registry),
        CeilingReached: partial(on_ceiling_reached, registry=registry),
        # Their own facts, for the time at which a run was closed (`gc --older-than`).
        **dict.fromkeys(CLOSING_FACTS, nothing_follows),
    }
    return PolicyService(
        group=ConsumerGroup(name="policy", handlers={fact: seen(handler) for fact, handler in handlers.items()}),
        dead_letters=DeadLetterWatch(
            topics=[fact.TOPIC for fact in FACTS if fact not in _NEVER_BLOCKING],
            handler=partial(_on_dead_letter, registry=registry, letters=letters),
        ),
        registry=registry,
        letters=letters,
    )


def _on_dead_letter(letter: DeadLetter, *, registry: RunRegistry, letters: DeadLetterBox) -> Sequence[Fact]:
    letters.keep(kept_letter(letter))
    if letter.fact is None:
        return []
    return block_run(event=letter.fact, topic=letter.original.topic, reason=letter.reason, registry=registry)
