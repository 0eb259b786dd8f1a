"""Replaying a dead letter: its run goes on, and its fact is published again under the run's epoch (DESIGN 3)."""

from __future__ import annotations

import dataclasses

from baldistill.errors import NotAllowedNow, NotKnown, UndecodableMessage
from baldistill.events.codec import decode
from baldistill.events.facts import RunState
from baldistill.runtime.handlers import PublishFacts
from services.policy.letters import DeadLetterBox, KeptLetter
from services.policy.ports import RunRecord
from services.policy.run_commands import RunCommands


def replay_letter(
    letter: KeptLetter, *, by: str, letters: DeadLetterBox, commands: RunCommands, publish: PublishFacts
) -> tuple[KeptLetter, RunRecord]:
    """Replay a letter. Idempotent: handlers find what is done. Returns the marked letter and its run.

    Raises NotAllowedNow where it cannot be decoded or its run is over or paused, DependencyUnavailable.
    """
    try:
        fact = decode(letter.message)
    except UndecodableMessage as error:
        raise NotAllowedNow(
            f"{error}; it belongs to no run and cannot be replayed: `baldistill resume RUN` lets a run go on that waits"
            " for what it said"
        ) from error
    try:
        record = commands.known(tenant=fact.tenant, run_id=fact.run_id)
    except NotKnown as error:
        raise NotAllowedNow(f"its run '{fact.run_id}' was deleted") from error
    if record.state is RunState.BLOCKED:
        record = commands.resume(tenant=fact.tenant, run_id=fact.run_id)
    if record.state is not RunState.RUNNING:
        remedy = "it is over" if record.state.is_final else "resume it first"
        raise NotAllowedNow(f"run '{record.name}' is {record.state.value.replace('_', ' ')}; {remedy}")
    publish([dataclasses.replace(fact, epoch=record.epoch)])
    return letters.mark_replayed(letter.letter_id, by=by), record
