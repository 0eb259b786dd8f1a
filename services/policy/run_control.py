"""Where a command takes a run: pause, resume, cancel, top-up (DESIGN 3). Pure decisions.

A command that changes a run raises its epoch, so that work begun before is acknowledged undone. The same command again
changes nothing: it returns the record as it is.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from baldistill.errors import NotAllowedNow
from baldistill.events.facts import (
    Fact,
    RunBlocked,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunPaused,
    RunState,
    RunStateChanged,
    RunSubmitted,
)
from services.policy.ports import RunRecord

# States whose money must not move: a person said so.
MONEY_STOPPED = frozenset({RunState.PAUSED, RunState.CANCELLED})


def paused(record: RunRecord, *, reason: str) -> RunRecord:
    """Return a run as a pause leaves it. Raises NotAllowedNow where it is over."""
    if record.state is RunState.PAUSED:
        return record
    _require_unfinished(record, "paused")
    return _changed(record, RunState.PAUSED, reason=reason)


def cancelled(record: RunRecord, *, reason: str) -> RunRecord:
    """Return a run as a cancel leaves it. Raises NotAllowedNow where it ended by itself."""
    if record.state is RunState.CANCELLED:
        return record
    _require_unfinished(record, "cancelled")
    return _changed(record, RunState.CANCELLED, reason=reason)


def resumed(record: RunRecord, *, topped_up: bool = False) -> RunRecord:
    """Return a run as a resume leaves it. Raises NotAllowedNow where it is over.

    topped_up: there is new money. A running run's epoch is raised then, so that a stage that stays open for money is
    looked at again.
    """
    _require_unfinished(record, "topped up" if topped_up else "resumed")
    if record.state is RunState.RUNNING and not topped_up:
        return record
    return _changed(record, RunState.RUNNING, reason="")


def raised(record: RunRecord) -> RunRecord:
    """Return the same run under its next epoch."""
    return _changed(record, record.state, reason=record.reason)


def announcement(record: RunRecord) -> list[Fact]:
    """Return the facts that tell everybody where a run is. For a running one, replay is resume (DESIGN 6)."""
    identity: dict[str, Any] = {"tenant": record.tenant, "run_id": record.run_id, "epoch": record.epoch}
    state = RunStateChanged(**identity, stage=record.stage, state=record.state)
    match record.state:
        case RunState.RUNNING:
            return [state, RunSubmitted(**identity, stage=0, spec=record.spec)]
        case RunState.PAUSED:
            return [state, RunPaused(**identity, stage=record.stage, reason=record.reason)]
        case RunState.CANCELLED:
            return [state, RunCancelled(**identity, stage=record.stage, reason=record.reason)]
        case RunState.BLOCKED:
            # The topic of what blocked it is with its dead letter.
            return [state, RunBlocked(**identity, stage=record.stage, topic="", reason=record.reason)]
        case RunState.FAILED:
            return [state, RunFailed(**identity, stage=record.stage, service="policy", reason=record.reason)]
        case RunState.COMPLETED | RunState.BUDGET_EXHAUSTED:
            return [state, RunCompleted(**identity, stage=record.stage, state=record.state)]


def _require_unfinished(record: RunRecord, verb: str) -> None:
    if not record.state.is_final:
        return
    told = record.state.value.replace("_", " ")
    why = f" ({record.reason})" if record.reason else ""
    raise NotAllowedNow(
        f"run '{record.name}' is {told}{why} and cannot be {verb}; submit its spec under another name to go further"
    )


def _changed(record: RunRecord, state: RunState, *, reason: str) -> RunRecord:
    return dataclasses.replace(
        record, state=state, epoch=record.epoch + 1, brought_here_by="", reason=reason, announced=False
    )
