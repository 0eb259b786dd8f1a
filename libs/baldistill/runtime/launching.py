"""Long work is launched, never done in a consumer: jobs behind one port (DESIGN 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import BalDistillError


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A stage's training and evaluation (stage 0: evaluation alone). Data only: any launcher can carry it.

    epoch: of the launch; what the job leads to is reported under the newest one.
    budget_exhausted: the batch that the job trains on ended with the budget.
    """

    tenant: str
    run_id: str
    epoch: int
    stage: int
    spec: ArtifactRef
    budget_exhausted: bool = False

    @property
    def name(self) -> str:
        """Names the job within its tenant: the same work has the same name."""
        return f"train-{self.run_id}-{self.stage}"


class JobStopped(BalDistillError):
    """A job ended because it was asked to; what it had is in its checkpoint. No failure."""


# Asked between two steps of a job: is it to end now?
ShouldStop: TypeAlias = Callable[[], bool]

# What a job does. Raises JobStopped soon after `should_stop` says so.
JobWork: TypeAlias = Callable[[Job, ShouldStop], None]
JobDone: TypeAlias = Callable[[Job], None]
JobFailed: TypeAlias = Callable[[Job, Exception], None]


class JobLauncher(Protocol):
    """Starts jobs. Thread-safe; `launch` returns at once."""

    def launch(self, job: Job) -> None:
        """Start a job. One of the same name that is there already = success, and it reports under the newer epoch."""

    def stop(self, *, tenant: str, run_id: str) -> None:
        """Ask a run's jobs to end; their names are free at once. Idempotent."""

    def is_busy(self) -> bool:
        """Tell whether any job waits, works or is being reported."""

    def close(self) -> None:
        """Ask all jobs to end and wait until they have. Idempotent."""
