"""Every fact of the event chain, as frozen values (DESIGN 3). The wire form is protos/baldistill/v1/events.proto.

A fact's identity is its meaning, never its cause: what `partition_key` and `identity_key` say, and nothing else.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from baldistill.artifacts.ports import ArtifactRef


class RunState(enum.Enum):
    """States of a run. Only RUNNING does work."""

    RUNNING = "running"
    BLOCKED = "blocked"
    PAUSED = "paused"
    COMPLETED = "completed"
    BUDGET_EXHAUSTED = "budget_exhausted"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """True where no resume is possible."""
        return self in _FINAL_STATES


_FINAL_STATES = frozenset({RunState.COMPLETED, RunState.BUDGET_EXHAUSTED, RunState.CANCELLED, RunState.FAILED})


class AnnotationPhase(enum.Enum):
    """A stage's teacher work: the demonstrations of the second phase prefer what the first accepted, and what the second
    lacks in the end is asked for once more where the budget has room.
    """

    ANNOTATE = "annotate"
    SYNTHESISE = "synthesise"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What all facts carry. stage: 0 = before the first stage. epoch: raised by pause, resume, cancel, top-up."""

    TOPIC: ClassVar[str]

    tenant: str
    run_id: str
    epoch: int
    stage: int

    def identity_key(self) -> str:
        """What tells this fact from others of its kind in the same run, epoch and stage."""
        return ""

    def shard_hint(self) -> int | None:
        """Shard number for facts that are spread over partitions, None for those kept in order by run."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSubmitted(Fact):
    """A run's spec is frozen and its money may be spent."""

    TOPIC: ClassVar[str] = "baldistill.run-submitted.v1"
    spec: ArtifactRef


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlanned(Fact):
    """The policy divided a stage's quota over the domains. previous_student: None before the first training."""

    TOPIC: ClassVar[str] = "baldistill.stage-planned.v1"
    spec: ArtifactRef
    plan: ArtifactRef
    previous_student: ArtifactRef | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFact(Fact):
    """One shard of a fan-out. shard: 0-based. shards: how many the stage has in this fan-out."""

    shard: int
    shards: int

    def identity_key(self) -> str:
        return f"shard-{self.shard}"

    def shard_hint(self) -> int | None:
        return self.shard


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringShardPlanned(ShardFact):
    """Candidates shard * rows_per_shard .. (spec's) are to be scored with `student`."""

    TOPIC: ClassVar[str] = "baldistill.scoring-shard-planned.v1"
    spec: ArtifactRef
    plan: ArtifactRef
    candidates: ArtifactRef
    student: ArtifactRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardScored(ShardFact):
    """The scores of one shard are stored. Carries what the fan-in needs to plan the next shard or to close."""

    TOPIC: ClassVar[str] = "baldistill.shard-scored.v1"
    spec: ArtifactRef
    plan: ArtifactRef
    candidates: ArtifactRef
    student: ArtifactRef
    scores: ArtifactRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplesSelected(Fact):
    """The stage's real examples are chosen; they have left the pool."""

    TOPIC: ClassVar[str] = "baldistill.examples-selected.v1"
    spec: ArtifactRef
    plan: ArtifactRef
    selection: ArtifactRef


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationShardPlanned(ShardFact):
    """One shard of teacher requests of one phase may be sent."""

    TOPIC: ClassVar[str] = "baldistill.annotation-shard-planned.v1"
    spec: ArtifactRef
    plan: ArtifactRef
    selection: ArtifactRef
    phase: AnnotationPhase

    def identity_key(self) -> str:
        return f"{self.phase.value}-{self.shard}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardAnnotated(ShardFact):
    """The teacher's answers of one shard are stored, accepted and rejected alike."""

    TOPIC: ClassVar[str] = "baldistill.shard-annotated.v1"
    spec: ArtifactRef
    plan: ArtifactRef
    selection: ArtifactRef
    phase: AnnotationPhase
    annotations: ArtifactRef

    def identity_key(self) -> str:
        return f"{self.phase.value}-{self.shard}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RationalesCollected(Fact):
    """The stage's training rows are complete. budget_exhausted: the budget ended before all rows were asked."""

    TOPIC: ClassVar[str] = "baldistill.rationales-collected.v1"
    spec: ArtifactRef
    batch: ArtifactRef
    budget_exhausted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineEvaluated(Fact):
    """The zero-shot student (stage 0) is measured."""

    TOPIC: ClassVar[str] = "baldistill.baseline-evaluated.v1"
    metrics: ArtifactRef


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentTrained(Fact):
    """A stage's student is stored and measured."""

    TOPIC: ClassVar[str] = "baldistill.student-trained.v1"
    student: ArtifactRef
    metrics: ArtifactRef
    budget_exhausted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFailed(Fact):
    """A verdict about data: the stage cannot succeed, however often it is tried."""

    TOPIC: ClassVar[str] = "baldistill.stage-failed.v1"
    service: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingReached(Fact):
    """A budget allows no further call of a stage that is to wait for more (`on_exhausted: pause`)."""

    TOPIC: ClassVar[str] = "baldistill.ceiling-reached.v1"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCompleted(Fact):
    """The run ended with a student. state: COMPLETED or BUDGET_EXHAUSTED."""

    TOPIC: ClassVar[str] = "baldistill.run-completed.v1"
    state: RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPaused(Fact):
    """Nothing more is asked or trained until the run is resumed."""

    TOPIC: ClassVar[str] = "baldistill.run-paused.v1"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBlocked(Fact):
    """A handler gave up on an event of this run; it waits for a person."""

    TOPIC: ClassVar[str] = "baldistill.run-blocked.v1"
    topic: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCancelled(Fact):
    """A person ended the run."""

    TOPIC: ClassVar[str] = "baldistill.run-cancelled.v1"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(Fact):
    """The run cannot succeed."""

    TOPIC: ClassVar[str] = "baldistill.run-failed.v1"
    service: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStateChanged(Fact):
    """The compacted run-state record: the last one per run is the truth. Written by policy alone."""

    TOPIC: ClassVar[str] = "baldistill.runs.v1"
    state: RunState

    def identity_key(self) -> str:
        return self.state.value


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressReported(Fact):
    """How far a long step is; lossy, never acted on. step: e.g. `train`. done, total: in `unit`s."""

    TOPIC: ClassVar[str] = "baldistill.progress.v1"
    step: str
    done: int
    total: int
    unit: str

    def identity_key(self) -> str:
        return f"{self.step}-{self.done}"


FACTS: tuple[type[Fact], ...] = (
    RunSubmitted,
    StagePlanned,
    ScoringShardPlanned,
    ShardScored,
    ExamplesSelected,
    AnnotationShardPlanned,
    ShardAnnotated,
    RationalesCollected,
    BaselineEvaluated,
    StudentTrained,
    StageFailed,
    CeilingReached,
    RunCompleted,
    RunPaused,
    RunBlocked,
    RunCancelled,
    RunFailed,
    RunStateChanged,
    ProgressReported,
)

DEAD_LETTER_SUFFIX = ".dlq"
