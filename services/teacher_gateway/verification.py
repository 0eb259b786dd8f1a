"""What is kept of a teacher's reply: rows that are never trained on where they are not right (DESIGN 2.4, 2.5). Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from baldistill.tasks.answers import NO_ANSWER, parse_annotation, parse_synthesis
from baldistill.tasks.comparison import Comparison
from baldistill.tasks.registry import Task
from services.teacher_gateway.requests import TeacherRequest


class RowOutcome(enum.Enum):
    """What became of a request."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNANSWERED = "unanswered"


UNPARSABLE = "unparsable"
WRONG_ANSWER = "wrong_answer"
WRONG_LABEL = "wrong_label"
BUDGET_EXHAUSTED = "budget_exhausted"
NO_ROOM_FOR_REPLACEMENT = "no_room_for_replacement"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRow:
    """One row of an annotation shard. input: of the example, or what was synthesised.

    rationale: the raw reply where it could not be read.   reason: empty where it is accepted.
    """

    row_id: str
    domain: str
    input: str
    rationale: str
    answer: str
    outcome: RowOutcome
    reason: str = ""

    def to_table_row(self) -> Mapping[str, str]:
        """Return the row as schemas.ANNOTATIONS has it."""
        return {
            "row_id": self.row_id,
            "domain": self.domain,
            "input": self.input,
            "rationale": self.rationale,
            "answer": self.answer,
            "outcome": self.outcome.value,
            "reason": self.reason,
        }


def verify(
    request: TeacherRequest, text: str, *, task: Task, labels: Sequence[str], compare: Comparison, checks: str
) -> VerifiedRow:
    """Judge a reply. labels: of the data set, none for free text.   compare: the task's.   checks: the spec's, for synthesis."""
    if request.example is not None:
        return _annotation(request, text, task=task, labels=labels, compare=compare)
    return _synthesis(request, text, task=task, labels=labels, checks=checks)


def unanswered(request: TeacherRequest, *, reason: str) -> VerifiedRow:
    """Return the row of a request that has no reply."""
    asked = request.example
    return VerifiedRow(
        row_id=request.row_id,
        domain=request.domain,
        input=asked.input if asked else "",
        rationale="",
        answer=asked.answer if asked else "",
        outcome=RowOutcome.UNANSWERED,
        reason=reason,
    )


def _annotation(
    request: TeacherRequest, text: str, *, task: Task, labels: Sequence[str], compare: Comparison
) -> VerifiedRow:
    assert request.example is not None
    parsed = parse_annotation(text)
    reason = ""
    if parsed is None:
        reason = UNPARSABLE
    elif not compare(task.canonical(parsed.answer, labels), [request.example.answer, *request.aliases]).is_correct:
        reason = WRONG_ANSWER
    return VerifiedRow(
        row_id=request.row_id,
        domain=request.domain,
        input=request.example.input,
        rationale=parsed.rationale if parsed else text,
        answer=request.example.answer if parsed is None or not reason else parsed.answer,
        outcome=RowOutcome.REJECTED if reason else RowOutcome.ACCEPTED,
        reason=reason,
    )


def _synthesis(request: TeacherRequest, text: str, *, task: Task, labels: Sequence[str], checks: str) -> VerifiedRow:
    parsed = parse_synthesis(text)
    if parsed is None:
        return VerifiedRow(
            row_id=request.row_id,
            domain=request.domain,
            input="",
            rationale=text,
            answer="",
            outcome=RowOutcome.REJECTED,
            reason=UNPARSABLE,
        )
    answer = task.canonical(parsed.answer, labels)
    question = parsed.input or ""
    wrong = checks != "none" and not task.fits(answer, required=request.right_label, question=question)
    return VerifiedRow(
        row_id=request.row_id,
        domain=request.domain,
        input=question,
        rationale=parsed.rationale,
        answer=parsed.answer if answer == NO_ANSWER else answer,
        outcome=RowOutcome.REJECTED if wrong else RowOutcome.ACCEPTED,
        reason=WRONG_LABEL if wrong else "",
    )
