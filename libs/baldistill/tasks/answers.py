"""Finding the final answer in a text: of the student (evaluation) and of the teacher (verification)."""

from __future__ import annotations

import re
from dataclasses import dataclass

# No answer, or one outside the label set; counted as wrong, never averaged as a label of its own (DESIGN 2.7).
NO_ANSWER = "<none>"

# `**Answer:** x`, `Answer**: x` and an answer on the next line are common. \S.*: linear in the text's length.
_ANSWER_LINE = re.compile(r"answer[ \t*_]*:\s*(\S.*)$", re.IGNORECASE | re.MULTILINE)
_TRIMMED = " \t\r\n.*_`'\"“”"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherAnswer:
    """What a teacher's reply says. input: None for annotations, the new question for synthesised examples."""

    rationale: str
    answer: str
    input: str | None = None


def final_answer(text: str) -> str | None:
    """Return what the text's last `Answer:` line says, as it is written; None where there is no such line."""
    found = _ANSWER_LINE.findall(text)
    return str(found[-1]).strip() if found else None


def trimmed(answer: str) -> str:
    """Return an answer without the marks, quotes and full stops around it, and with single spaces."""
    return " ".join(answer.strip(_TRIMMED).split())


def parse_annotation(text: str) -> TeacherAnswer | None:
    """Split an annotation into rationale and final answer; None where there is no `Answer:` line or no rationale."""
    matches = list(_ANSWER_LINE.finditer(text))
    if not matches:
        return None
    rationale = text[: matches[-1].start()].strip().rstrip("*_ \t").rstrip()
    answer = matches[-1].group(1).strip()
    return TeacherAnswer(rationale=rationale, answer=answer) if rationale and answer else None


def parse_synthesis(text: str) -> TeacherAnswer | None:
    """Read the three tags of a synthesised example; None where one is missing or empty."""
    parts = {name: _tagged(text, name) for name in ("input", "rationale", "answer")}
    if not all(parts.values()):
        return None
    return TeacherAnswer(input=parts["input"], rationale=parts["rationale"], answer=parts["answer"])


def _tagged(text: str, name: str) -> str:
    match = re.search(rf"<{name}>(.*?)</{name}>", text, re.IGNORECASE | re.DOTALL)
    return match.group(1).strip() if match else ""
