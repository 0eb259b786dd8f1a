"""Long work is launched, never done in a consumer: jobs behind one port (DESIGN 3)."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeAlias

from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import BalDistillError, PermanentError, RetryableError
from baldistill.events.trace_context import current_traceparent

_NAME_DIGITS = 24


class JobKind(enum.Enum):
    """TRAIN: a stage's training and evaluation, part of its run. EVALUATE, SCORE: asked for by a caller, of no run."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    SCORE = "score"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be done. Data only: any launcher can carry it.

    TRAIN: a stage's training and evaluation (stage 0: evaluation alone).   EVALUATE, SCORE: of `examples` by the student
    of this run and stage, answers of at most `max_new_tokens` tokens.
    epoch: of the launch; what the job leads to is reported under the newest one.
    budget_exhausted: the batch that the job trains on ended with the budget.   traceparent: what the job leads to goes on
    in this trace; given by the launcher, and no part of what the job is.
    """

    tenant: str
    run_id: str
    epoch: int
    stage: int
    spec: ArtifactRef
    budget_exhausted: bool = False
    kind: JobKind = JobKind.TRAIN
    examples: ArtifactRef | None = None
    max_new_tokens: int = 0
    traceparent: str | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """Names the job within its tenant: the same work has the same name."""
        if self.examples is None:
            return f"{self.kind.value}-{self.run_id}-{self.stage}"
        asked = json.dumps([self.run_id, self.stage, self.examples.key, self.examples.sha256, self.max_new_tokens])
        return f"{self.kind.value}-{hashlib.sha256(asked.encode()).hexdigest()[:_NAME_DIGITS]}"

    def in_current_trace(self) -> Self:
        """Return the job as part of the trace of the work at hand, unless it is part of one already."""
        return self if self.traceparent else dataclasses.replace(self, traceparent=current_traceparent())

    def to_json(self) -> str:
        """Return the job as JSON, for whoever carries it."""
        return json.dumps(dataclasses.asdict(self) | {"kind": self.kind.value}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        examples = values.pop("examples")
        return cls(
            **values
            | {
                "kind": JobKind(values["kind"]),
                "spec": ArtifactRef(**values["spec"]),
                "examples": None if examples is None else ArtifactRef(**examples),
            }
        )


class JobStopped(BalDistillError):
    """A job ended because it was asked to; what it had is in its checkpoint. No failure."""


class JobLeft(BalDistillError):
    """This process ends, and the job's work goes on without it: whoever takes the job next finds it. No failure."""


class JobDisrupted(RetryableError):
    """Something outside ended a job: a node, a kill. It goes on from its checkpoint, and nothing is counted."""


class VerdictOnData(PermanentError):
    """What the job works on cannot succeed, however often it is tried."""


# Asked between two steps of a job: is it to end now? Raises where it must end before its next step.
ShouldStop: TypeAlias = Callable[[], bool]

# What a job does. Raises JobStopped soon after `should_stop` says so.
JobWork: TypeAlias = Callable[[Job, ShouldStop], None]
JobDone: TypeAlias = Callable[[Job], None]
JobFailed: TypeAlias = Callable[[Job, Exception], None]
# Told at a job's end, done or failed: seconds since its launch.
JobEnded: TypeAlias = Callable[[Job, float], None]


class JobLauncher(Protocol):
    """Starts jobs. Thread-safe; `launch` returns at once."""

    def launch(self, job: Job) -> None:
        """Start a job. One of the same name that is there already = success, and it reports under the newer epoch.

        Raises DependencyUnavailable where it cannot be remembered; it is not started then.
        """

    def stop(self, *, tenant: str, run_id: str) -> None:
        """Ask a run's jobs to end; their names are free at once. Idempotent. Raises DependencyUnavailable."""

    def is_busy(self) -> bool:
        """Tell whether any job waits, works or is being reported."""

    def close(self) -> None:
        """Ask all jobs of this launcher to end and wait until they have. Idempotent."""
