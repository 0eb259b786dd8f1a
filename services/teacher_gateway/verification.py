"""What is kept of a teacher's reply: rows that are never trained on where they are not right (DESIGN 2.4, 2.5). Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from baldistill.tasks.answers import NO_ANSWER, extract_label, parse_annotation, parse_synthesis
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


def verify(request: TeacherRequest, text: str, *, labels: Sequence[str], checks: str) -> VerifiedRow:
    """Judge a reply. labels: all of the task, empty for free text.   checks: the spec's, for synthesis."""
    if request.example is not None:
        return _annotation(request, text, labels=labels)
    return _synthesis(request, text, labels=labels, checks=checks)


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


def _annotation(request: TeacherRequest, text: str, *, labels: Sequence[str]) -> VerifiedRow:
    assert request.example is not None
    parsed = parse_annotation(text)
    reason = ""
    if parsed is None:
        reason = UNPARSABLE
    elif _canonical(parsed.answer, labels) != request.example.answer:
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


def _synthesis(request: TeacherRequest, text: str, *, labels: Sequence[str], checks: str) -> VerifiedRow:
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
    answer = _canonical(parsed.answer, labels)
    wrong = checks != "none" and (
        answer == NO_ANSWER or (request.right_label is not None and answer != request.right_label)
    )
    return VerifiedRow(
        row_id=request.row_id,
        domain=request.domain,
        input=parsed.input or "",
        rationale=parsed.rationale,
        answer=parsed.answer if answer == NO_ANSWER else answer,
        outcome=RowOutcome.REJECTED if wrong else RowOutcome.ACCEPTED,
        reason=WRONG_LABEL if wrong else "",
    )


def _canonical(answer: str, labels: Sequence[str]) -> str:
    """Return the label that an answer names, NO_ANSWER where it names none; free text stands as it is."""
    return extract_label(f"Answer: {answer}", labels) if labels else answer.strip()
