"""What policy needs from outside: its own registry of runs, and two descriptions made by others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from baldistill.artifacts.ports import ArtifactRef
from baldistill.events.facts import Fact, RunState
from baldistill.specs.frozen import FrozenBaseModel


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """Where a run is. stage: the one being worked on, 0 = none yet, K + 1 = all are done.

    brought_here_by: id of the fact that set the current stage or state; a redelivery of that very fact is answered again.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """When policy first saw a fact of a run. at: UTC."""

    fact: str
    stage: int
    at: datetime


class RunRegistry(Protocol):
    """Durable records of runs. Every change is one transaction; compare-and-set on (epoch, stage, state)."""

    def create(self, record: RunRecord) -> RunRecord:
        """Insert, or return the record that is already there under the same run id."""

    def find(self, *, tenant: str, run_id: str) -> RunRecord | None:
        """Return a run's record, or None."""

    def find_by_name(self, *, tenant: str, name: str) -> RunRecord | None:
        """Return the run of that name, or None."""

    def list_runs(self, *, tenant: str | None = None) -> list[RunRecord]:
        """Return all runs, newest first."""

    def replace(self, *, expected: RunRecord, changed: RunRecord) -> bool:
        """Write `changed` if epoch, stage and state still are as in `expected`; False where another was faster."""

    def mark_baseline(self, *, tenant: str, run_id: str) -> RunRecord:
        """Remember that stage 0 is measured. Idempotent. Raises PermanentError for an unknown run."""

    def record_fact(self, fact: Fact, *, at: datetime) -> None:
        """Note when a fact was first seen; later sightings change nothing. Times live here, never in artifacts."""

    def timeline(self, *, tenant: str, run_id: str) -> list[TimelineEntry]:
        """Return a run's facts by the time they were first seen."""

    def forget(self, *, tenant: str, run_id: str) -> None:
        """Delete a run's record and timeline."""


class BaseModelCatalogue(Protocol):
    """Knows base models without loading them for compute."""

    def describe(self, name: str) -> FrozenBaseModel:
        """Return name and weights' digest. Raises InvalidInput for an unknown model."""
