"""What policy needs from outside: its own registry of runs, and two descriptions made by others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import PermanentError
from baldistill.events.facts import Fact, RunState
from baldistill.specs.frozen import FrozenBaseModel


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """Where a run is. stage: the one being worked on, 0 = none yet, K + 1 = all are done.

    brought_here_by: id of the fact that set the current stage or state; a redelivery of that very fact is answered again.
    announced: False while a command's part of the work is not done: its money, its facts (ADR 17).   created_at: UTC;
    set by the registry.
    """

    tenant: str
    run_id: str
    name: str
    spec: ArtifactRef
    state: RunState
    epoch: int
    stage: int
    baseline_evaluated: bool
    budget_exhausted: bool
    brought_here_by: str
    reason: str
    announced: bool = True
    created_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """What a top-up adds to a run's ceilings."""

    calls: int = 0
    tokens: int = 0
    nano_usd: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """When policy first saw a fact of a run. at: UTC."""

    fact: str
    stage: int
    at: datetime


class RunRegistry(Protocol):
    """Durable records of runs. Every change is one transaction; compare-and-set on (epoch, stage, state)."""

    def create(self, record: RunRecord, *, limited: bool = False) -> RunRecord:
        """Insert, or return the record that is already there under the same run id.

        limited: refuse more unfinished runs than the tenant may have at once. Raises LimitReached, NotKnown (tenant),
        AlreadyThere where another run has the name; nothing is inserted then.
        """

    def find(self, *, tenant: str, run_id: str) -> RunRecord | None:
        """Return a run's record, or None."""

    def find_by_name(self, *, tenant: str, name: str) -> RunRecord | None:
        """Return the run of that name, or None."""

    def list_runs(self, *, tenant: str | None = None) -> list[RunRecord]:
        """Return all runs, newest first."""

    def page(self, *, tenant: str, states: Collection[RunState], size: int, after: RunRecord | None) -> list[RunRecord]:
        """Return up to `size` runs in one of these states (none named: all), newest first, those behind `after`."""

    def replace(self, *, expected: RunRecord, changed: RunRecord, top_up: str | None = None) -> bool:
        """Write `changed` if epoch, stage and state still are as in `expected`; False where another was faster.

        A change of epoch or state takes `changed.announced` along; an advance of the stage leaves it alone.
        top_up: remembered in the same transaction, see `is_topped_up`.
        """

    def is_topped_up(self, record: RunRecord, *, request_id: str) -> bool:
        """Tell whether a run was set going by a top-up of this id before."""

    def mark_announced(self, record: RunRecord) -> None:
        """Note that a run's row of this epoch and state is announced. Nothing where it is another by now. Idempotent."""

    def unannounced(self, *, for_s: float) -> list[RunRecord]:
        """Return the runs that were changed at least `for_s` seconds ago and are not announced, oldest change first."""

    def count_by_state(self) -> dict[tuple[str, str], int]:
        """Return how many runs there are by (tenant, state), those of the tenants with most runs first."""

    def watched(self, *, most: int, ended_within_s: float) -> list[RunRecord]:
        """Return runs that are open or changed within `ended_within_s`, newest first, `most` at most."""

    def unfinished(self) -> list[RunRecord]:
        """Return all runs that are not in a final state, oldest first."""

    def mark_baseline(self, *, tenant: str, run_id: str) -> RunRecord:
        """Remember that stage 0 is measured. Idempotent. Raises PermanentError for an unknown run."""

    def record_fact(self, fact: Fact, *, at: datetime, durable: bool = True) -> None:
        """Note when a fact was first seen; later sightings change nothing. Times live here, never in artifacts.

        durable: False: do not wait for the disk. The note is lost where the database's machine dies within a second of it.
        """

    def timeline(self, *, tenant: str, run_id: str) -> list[TimelineEntry]:
        """Return a run's facts by the time they were first seen."""

    def forget(self, *, tenant: str, run_id: str) -> None:
        """Delete a run's record and timeline."""


class Overtaken(PermanentError):
    """A newer command has settled this run's money: what this one wanted is no longer wanted."""

    def __init__(self, *, run_id: str) -> None:
        super().__init__(f"run '{run_id}' was changed by a newer command")
        self.run_id = run_id


class RunBudgets(Protocol):
    """The money of runs, kept by the gateway. Thread-safe; every method is idempotent.

    A run that has no budget yet gets the one of its frozen spec first. epoch: the run's, at which this holds.
    All raise DependencyUnavailable where the gateway is away; nothing was changed then, or the same call again does it.
    """

    def reach(self, run: RunRecord) -> None:
        """Change nothing; raise where the gateway is away."""

    def freeze(self, run: RunRecord, *, epoch: int) -> None:
        """Let no further call begin. Raises Overtaken where a newer epoch was here before."""

    def thaw(self, run: RunRecord, *, epoch: int) -> None:
        """Let calls begin again. Raises Overtaken where a newer epoch was here before."""

    def is_frozen_later(self, run: RunRecord) -> bool:
        """Tell whether a command of a later epoch than the run's froze its money. False where there is no budget yet."""

    def add(self, run: RunRecord, money: Money, *, request_id: str) -> None:
        """Raise the ceilings that there are, once per `request_id`. Raises NotAllowedNow where its amounts changed."""


class BaseModelCatalogue(Protocol):
    """Knows base models without loading them for compute."""

    def describe(self, name: str) -> FrozenBaseModel:
        """Return name and weights' digest. Raises InvalidInput for an unknown model."""
