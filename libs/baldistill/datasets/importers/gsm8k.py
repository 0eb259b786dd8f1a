"""GSM8K: a question, a solution with calculator marks, and the answer after `####` (Cobbe et al. 2021).

It has no subjects. Its domain is how many steps the solution has: a long tail of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from baldistill.datasets.importers.original_rows import OriginalRows
from baldistill.datasets.sources.jsonl import JsonLines
from baldistill.datasets.sources.rows import SourceRow
from baldistill.errors import InvalidInput

_CALCULATOR_MARK = re.compile(r"<<.*?>>")
# Longer solutions are too few to be domains.
_MOST_STEPS = 8


def gsm8k_rows(path: Path, *, split: str) -> OriginalRows:
    """Return the rows of a file, each with its rationale. Ids are `gsm8k-<split>-<number of the question from 0>`."""

    def read() -> Iterator[SourceRow]:
        for number, row in enumerate(JsonLines(path=path).rows()):
            question = _text(row, "question")
            solution, marker, answer = _text(row, "answer").rpartition("####")
            if not marker or not answer.strip():
                reason = "has no number after ####" if marker else "has no #### before its number"
                raise InvalidInput(reason, path=path, line=row.line, field="answer")
            rationale = _CALCULATOR_MARK.sub("", solution).strip()
            values = {
                "id": f"gsm8k-{split}-{number}",
                "domain": domain_of_steps(sum(bool(line.strip()) for line in rationale.splitlines())),
                "input": question.strip(),
                "answer": answer.strip().replace(",", ""),
                "rationale": rationale,
            }
            yield SourceRow(path=path, line=row.line, values=values, position=row.position)

    return OriginalRows(path=path, read=read)


def domain_of_steps(steps: int) -> str:
    """Return the domain of a solution with so many lines."""
    return f"steps-{_MOST_STEPS}+" if steps >= _MOST_STEPS else f"steps-{steps}"


def _text(row: SourceRow, name: str) -> str:
    value = row.values.get(name)
    if not isinstance(value, str):
        raise InvalidInput("is missing or no text", path=row.path, line=row.line, field=name)
    return value
