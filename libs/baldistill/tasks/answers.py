"""Reading answers out of texts: of the student (evaluation) and of the teacher (verification)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# Outside the label set; counted as wrong, never averaged as a label of its own (DESIGN 2.7).
NO_ANSWER = "<none>"

_ANSWER_LINE = re.compile(r"answer\s*:\s*(.+?)\s*$", re.IGNORECASE | re.MULTILINE)
_TRIMMED = " \t\r\n.*_`'\"“”"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherAnswer:
    """What a teacher's reply says. input: None for annotations, the new question for synthesised examples."""

    rationale: str
    answer: str
    input: str | None = None


def extract_label(text: str, labels: Sequence[str]) -> str:
    """Return the label named by the text's last `Answer:` line, or `<none>`.

    Exact first; then without regard to case and surrounding punctuation. A label inside a longer answer is not a match.
    """
    found = _ANSWER_LINE.findall(text)
    if not found:
        return NO_ANSWER
    answer = found[-1].strip(_TRIMMED)
    by_folded = {label.casefold(): label for label in reversed(labels)}
    return answer if answer in labels else by_folded.get(answer.casefold(), NO_ANSWER)


def parse_annotation(text: str) -> TeacherAnswer | None:
    """Split an annotation into rationale and final answer; None where there is no `Answer:` line or no rationale."""
    matches = list(_ANSWER_LINE.finditer(text))
    if not matches:
        return None
    rationale = text[: matches[-1].start()].strip()
    answer = matches[-1].group(1).strip(_TRIMMED)
    return TeacherAnswer(rationale=rationale, answer=answer) if rationale and answer else None


def parse_synthesis(text: str) -> TeacherAnswer | None:
    """Read the three tags of a synthesised example; None where one is missing or empty."""
    parts = {name: _tagged(text, name) for name in ("input", "rationale", "answer")}
    if not all(parts.values()):
        return None
    return TeacherAnswer(input=parts["input"], rationale=parts["rationale"], answer=parts["answer"].strip(_TRIMMED))


def _tagged(text: str, name: str) -> str:
    match = re.search(rf"<{name}>(.*?)</{name}>", text, re.IGNORECASE | re.DOTALL)
    return match.group(1).strip() if match else ""
