"""What a report says, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.trainer.evaluation.reports import EvaluationReport

# By kind of teacher.
NO_QUALITY_CLAIMS = {
    "protocol": (
        "The teacher is `protocol`: it answers by fixed rules, so that transport, budget and failures can be tried."
        " The scores say what the student learned from such answers. No claim about quality."
    ),
    "oracle": (
        "The teacher is `oracle`: it gives what people wrote, human rationales and real items of the data set. The scores"
        " are an upper bound of what a teacher can do. No claim about the quality of any real LLM."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCounts:
    """Rows of one domain in one stage. asked: of the teacher, real and synthetic.   trained: rows of the batch.

    replacements: asked in place of rejected ones.   reused: asked, answered by what another run had paid for: no call.
    """

    selected: int = 0
    asked: int = 0
    accepted: int = 0
    rejected: int = 0
    unanswered: int = 0
    trained: int = 0
    replacements: int = 0
    reused: int = 0

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(
            selected=self.selected + other.selected,
            asked=self.asked + other.asked,
            accepted=self.accepted + other.accepted,
            rejected=self.rejected + other.rejected,
            unanswered=self.unanswered + other.unanswered,
            trained=self.trained + other.trained,
            replacements=self.replacements + other.replacements,
            reused=self.reused + other.reused,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """One stage. rows: by domain.   rejections: by reason.   metrics: None where no student was trained.

    minutes: wall-clock, by step: select, annotate, train (with evaluation); a step that a stop interrupted counts the pause.
    """

    stage: int
    quota: int
    rows: Mapping[str, RowCounts]
    rejections: Mapping[str, int]
    metrics: EvaluationReport | None
    minutes: Mapping[str, float]

    @property
    def total(self) -> RowCounts:
        return sum(self.rows.values(), RowCounts())


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """Calls, tokens and nano-USD under one budget. unknown: part of spent whose outcome nobody knows.

    None: no ceiling in that unit.
    """

    scope: str
    ceiling: Mapping[str, int | None]
    spent: Mapping[str, int]
    held: Mapping[str, int]
    unknown: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """One run. stages[0] is the zero-shot student. references: by name, on the rows of the last student."""

    name: str
    run_id: str
    tenant: str
    state: str
    reason: str
    method: str
    target: str
    dataset: str
    base_model: str
    teacher: str
    claims_quality: bool
    budget_examples: int
    planned_calls: int
    pool: Mapping[str, int]
    tail: frozenset[str]
    stages: tuple[StageReport, ...]
    references: Mapping[str, EvaluationReport]
    usage: tuple[UsageReport, ...]

    @property
    def run_usage(self) -> UsageReport | None:
        """The run's own budget."""
        return next((one for one in self.usage if one.scope == "run"), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "name": self.name,
            "run_id": self.run_id,
            "tenant": self.tenant,
            "state": self.state,
            "reason": self.reason,
            "method": self.method,
            "target": self.target,
            "dataset": self.dataset,
            "base_model": self.base_model,
            "teacher": self.teacher,
            "quality_claim": self.claims_quality,
            "budget_examples": self.budget_examples,
            "planned_calls": self.planned_calls,
            "pool": dict(self.pool),
            "tail": sorted(self.tail),
            "stages": [_stage_json(stage) for stage in self.stages],
            "references": {name: report.to_json() for name, report in self.references.items()},
            "usage": [
                {
                    "scope": one.scope,
                    "ceiling": dict(one.ceiling),
                    "spent": dict(one.spent),
                    "held": dict(one.held),
                    "unknown": dict(one.unknown),
                }
                for one in self.usage
            ],
        }


def _stage_json(stage: StageReport) -> dict[str, Any]:
    return {
        "stage": stage.stage,
        "quota": stage.quota,
        "rows": {
            name: {field: getattr(rows, field) for field in RowCounts.__slots__} for name, rows in stage.rows.items()
        },
        "rejections": dict(stage.rejections),
        "metrics": stage.metrics.to_json() if stage.metrics else None,
        "minutes": dict(stage.minutes),
    }
