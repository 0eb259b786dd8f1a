"""The promise of the job registry: what is to be done, and who does it (DESIGN 3, ADR 20)."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from baldistill.runtime.launching import Job, JobKind


class JobState(enum.Enum):
    """OPEN: to be done, or being done. STOPPED: somebody wants it no more. DONE, FAILED: reported."""

    OPEN = "open"
    STOPPED = "stopped"
    DONE = "done"
    FAILED = "failed"


# As people count jobs: an open one that somebody works on is running.
RUNNING = "running"
STANDINGS = (*(state.value for state in JobState), RUNNING)


class Standing(enum.Enum):
    """KEEP: go on. STOP: save and end. LOST: another has it; end at once."""

    KEEP = "keep"
    STOP = "stop"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job that one owner may work on. stops: tells this opening of the job from later ones. failures: so far.

    age_s: since its launch.
    """

    job: Job
    stops: int
    failures: int
    age_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job as the registry knows it. owner: empty where nobody works on it. reason: what it failed of."""

    job: Job
    state: JobState
    owner: str
    reason: str


class JobRegistry(Protocol):
    """Jobs by tenant and name. Thread- and process-safe; what a method returns is durable.

    A job has at most one owner. Owners hold a lease by the registry's clock. Raises DependencyUnavailable, StorageFull.
    """

    def put(self, job: Job) -> None:
        """Have a job done. One that is open stays as it is but for a newer epoch; one that ended is opened again."""

    def stop_run(self, *, tenant: str, run_id: str) -> None:
        """Want a run's trainings no more; whoever works on one hears it at its next `beat`."""

    def claim(
        self, *, owner: str, kinds: Collection[JobKind], limit: int, lease_s: float, trust_leases: bool
    ) -> list[Claim]:
        """Take up to `limit` open jobs, oldest first, that nobody owns or, where leases are trusted, whose lease is over."""

    def beat(self, claim: Claim, *, owner: str, lease_s: float) -> Standing:
        """Renew the lease and hear how the claim stands."""

    def release(self, claim: Claim, *, owner: str, delay_s: float = 0.0, failed: bool = False) -> None:
        """Give a job back, for anyone to take after `delay_s` seconds. failed: count it."""

    def finish(self, claim: Claim, *, owner: str, epoch: int, state: JobState, reason: str = "") -> Job | None:
        """End a job that was reported under `epoch`. Return it where a newer epoch waits to be told as well.

        None: it is ended, or it is not this owner's any more.
        """

    def free(self, *, owner: str) -> int:
        """Give back all that an owner had, whose process is proven dead. Return how many jobs."""

    def owners(self) -> list[str]:
        """Return who owns a job now."""

    def has_open(self, kinds: Collection[JobKind]) -> bool:
        """Tell whether any job is open or still owned."""

    def count(self, kinds: Collection[JobKind]) -> Mapping[tuple[JobKind, str], int]:
        """Return how many jobs of each kind stand in each of `STANDINGS`, zeros included."""

    def forget_run(self, *, tenant: str, run_id: str) -> int:
        """Delete all jobs of a run that is deleted, whatever their state; who works on one loses it. Return how many."""

    def find(self, *, tenant: str, name: str) -> JobRecord | None:
        """Return a job, or None."""
