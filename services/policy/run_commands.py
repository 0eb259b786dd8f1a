"""Pause, resume, cancel, top-up: decided by run_control, carried out in an order that survives any death (ADR 17).

Money stops before a run is said to be stopped, and goes on after it is said to go on. What was set but not announced is
marked so in the run's row, and the reconciler finishes it.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from baldistill.errors import DependencyUnavailable, InvalidInput, NotKnown, RetryableError
from baldistill.events.facts import RunState
from baldistill.runtime.handlers import PublishFacts
from services.policy.ports import Money, Overtaken, RunBudgets, RunRecord, RunRegistry
from services.policy.run_control import MONEY_STOPPED, announcement, cancelled, paused, raised, resumed

# Each loss of the race means that another command or fact went through; more than a few in a row are no accident.
_TRIES = 20
_LONGEST_REQUEST_ID = 200

_log = structlog.get_logger(__name__)


class RunBusy(RetryableError):
    """Others change the run faster than this command could."""

    def __init__(self, *, run_id: str) -> None:
        super().__init__(f"run '{run_id}' is being changed by others; try again")
        self.run_id = run_id


class RunCommands:
    """Carries out what a person asks of a run. Thread-safe; any number of replicas."""

    def __init__(self, *, registry: RunRegistry, budgets: RunBudgets, publish: PublishFacts) -> None:
        self._registry = registry
        self._budgets = budgets
        self._publish = publish

    def pause(self, *, tenant: str, run_id: str, reason: str) -> RunRecord:
        """Stop a run; after this returned no further call is begun. Idempotent.

        Raises NotKnown, NotAllowedNow, DependencyUnavailable (nothing is changed where the gateway is away), RunBusy.
        """
        return self._stop(tenant, run_id, lambda record: paused(record, reason=reason or "paused by a person"))

    def cancel(self, *, tenant: str, run_id: str, reason: str) -> RunRecord:
        """End a run for good; after this returned no further call is begun. Idempotent. Raises as `pause` does."""
        return self._stop(tenant, run_id, lambda record: cancelled(record, reason=reason or "cancelled by a person"))

    def resume(self, *, tenant: str, run_id: str, add: Money | None = None, request_id: str = "") -> RunRecord:
        """Let a run go on, with more money where `add` says so; `add` is added once per `request_id`. Idempotent.

        Raises NotKnown, NotAllowedNow, InvalidInput, DependencyUnavailable, RunBusy.
        """
        if add is not None:
            _check_request_id(request_id)
        for _ in range(_TRIES):
            record = self.known(tenant=tenant, run_id=run_id)
            if add is not None and self._registry.is_topped_up(record, request_id=request_id):
                # The answer to the first call was lost; what it asked for is done, whatever came after it.
                return record if record.state.is_final else self._settle_or_leave(record)
            changed = resumed(record, topped_up=add is not None)
            if add is None:
                self._budgets.reach(record)
            else:
                self._budgets.add(record, add, request_id=request_id)
            if changed is record or self._registry.replace(
                expected=record, changed=changed, top_up=request_id if add is not None else None
            ):
                return self._settle_or_leave(changed)
        raise RunBusy(run_id=run_id)

    def settle(self, record: RunRecord) -> RunRecord:
        """Bring money and announcements to where a run's row is. Idempotent. Raises DependencyUnavailable.

        Returns the row as it is then: another command may have overtaken this one, and settles for itself.
        """
        for _ in range(_TRIES):
            try:
                self._settle_money(record)
            except Overtaken:
                current = self.known(tenant=record.tenant, run_id=record.run_id)
                if (current.epoch, current.state) != (record.epoch, record.state):
                    return current
                # A stop froze the money and went no further. If it is alive it tries again: its row has moved.
                record = raised(current)
                if not self._registry.replace(expected=current, changed=record):
                    return self.known(tenant=record.tenant, run_id=record.run_id)
            else:
                return self._announce(record)
        raise RunBusy(run_id=record.run_id)

    def announce(self, record: RunRecord) -> RunRecord:
        """Tell everybody of a run that was submitted: nobody has stopped its money yet, so no gateway is needed.

        A broker that is away is told later.
        """
        return self._announce_or_leave(record)

    def finish(self, record: RunRecord) -> RunRecord:
        """Do what a command or a submission left undone. Raises DependencyUnavailable."""
        return self._announce(record) if record.epoch == 1 else self.settle(record)

    def known(self, *, tenant: str, run_id: str) -> RunRecord:
        """Return a run's record. Raises NotKnown."""
        record = self._registry.find(tenant=tenant, run_id=run_id)
        if record is None:
            raise NotKnown(kind="run", name=run_id, remedy="see `baldistill runs list`")
        return record

    def _stop(self, tenant: str, run_id: str, decide: Callable[[RunRecord], RunRecord]) -> RunRecord:
        for _ in range(_TRIES):
            record = self.known(tenant=tenant, run_id=run_id)
            changed = decide(record)
            try:
                self._budgets.freeze(record, epoch=changed.epoch)
            except Overtaken:
                if changed is record:
                    # As in `settle`: the next epoch is the highest that a command without a row of its own can have.
                    self._registry.replace(expected=record, changed=raised(record))
                continue
            if changed is record or self._registry.replace(expected=record, changed=changed):
                return self._announce_or_leave(changed)
        raise RunBusy(run_id=run_id)

    def _settle_money(self, record: RunRecord) -> None:
        if record.state in MONEY_STOPPED:
            self._budgets.freeze(record, epoch=record.epoch)
        elif record.state is RunState.RUNNING:
            self._budgets.thaw(record, epoch=record.epoch)

    def _settle_or_leave(self, record: RunRecord) -> RunRecord:
        try:
            return self.settle(record)
        except DependencyUnavailable as outage:
            return self._left(record, outage)

    def _announce_or_leave(self, record: RunRecord) -> RunRecord:
        try:
            return self._announce(record)
        except DependencyUnavailable as outage:
            return self._left(record, outage)

    def _announce(self, record: RunRecord) -> RunRecord:
        """Publish where a run is. Where it moved on meanwhile, the newer facts are published after these."""
        for _ in range(_TRIES):
            self._publish(announcement(record))
            self._registry.mark_announced(record)
            current = self.known(tenant=record.tenant, run_id=record.run_id)
            if (current.epoch, current.state) == (record.epoch, record.state) or not current.announced:
                return current
            record = current
        raise RunBusy(run_id=record.run_id)

    def _left(self, record: RunRecord, outage: DependencyUnavailable) -> RunRecord:
        _log.warning("left to the reconciler", run_id=record.run_id, epoch=record.epoch, reason=str(outage))
        return record


def _check_request_id(request_id: str) -> None:
    if not request_id or len(request_id) > _LONGEST_REQUEST_ID:
        raise InvalidInput(
            f"what is added needs an id of 1 to {_LONGEST_REQUEST_ID} characters of the caller's making, so that it is"
            " added once",
            field="request_id",
        )
