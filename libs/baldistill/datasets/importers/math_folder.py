r"""Hendrycks MATH: `<split>/<subject>/<number>.json`; the answer is what the solution's last \boxed{} holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from baldistill.datasets.importers.original_files import is_archive, read_original_files
from baldistill.datasets.importers.original_rows import OriginalRows
from baldistill.datasets.sources.rows import SourceRow
from baldistill.errors import InvalidInput

_BOXES = (r"\boxed", r"\fbox")


def math_rows(path: Path, *, split: str, skip_empty_answers: bool = False) -> OriginalRows:
    """Return the rows of one split, each with its solution as rationale, from a folder or a .tar.gz.

    Ids are `math-<split>-<subject>-<number>`.   skip_empty_answers: the original has two solutions with an empty box;
    they are left out instead of refused.
    """
    folder = path if is_archive(path) or not (path / split).is_dir() else path / split

    def read() -> Iterator[SourceRow]:
        found = False
        for file, data in read_original_files(folder, suffix=".json"):
            if is_archive(path) and split not in file.relative_to(path).parts[:-2]:
                continue
            found = True
            problem = _problem(file, data)
            answer = boxed_answer(problem["solution"])
            if not (answer or "").strip():
                if answer is not None and skip_empty_answers:
                    continue
                raise InvalidInput(_why_no_answer(answer), path=file, field="solution")
            yield SourceRow(path=file, line=1, values=_values(file, problem, answer or "", split=split), position=0)
        if not found:
            raise InvalidInput(f"has no folder '{split}' with problems", path=path)

    return OriginalRows(path=path, read=read)


def boxed_answer(solution: str) -> str | None:
    r"""Return what the last \boxed{...} or \boxed 7 holds, braces matched; None where there is none or it never closes."""
    start, box = max((solution.rfind(box), box) for box in _BOXES)
    if start < 0:
        return None
    rest = solution[start + len(box) :]
    if not rest.startswith("{"):
        # TeX takes the next token; the data set's authors take all until the formula ends.
        return rest.split("$")[0]
    depth = 0
    for place, one in enumerate(rest):
        depth += (one == "{") - (one == "}")
        if depth == 0:
            return rest[1:place]
    return None


def _values(file: Path, problem: Mapping[str, str], answer: str, *, split: str) -> dict[str, str]:
    subject = file.parent.name
    return {
        "id": f"math-{split}-{subject}-{file.stem}",
        "domain": subject,
        "input": problem["problem"].strip(),
        "answer": answer.strip(),
        "rationale": problem["solution"].strip(),
    }


def _problem(file: Path, data: bytes) -> dict[str, str]:
    try:
        values = json.loads(data.decode())
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"not UTF-8: byte {error.start + 1} of the file", path=file, line=_line(data, error.start)
        ) from None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"malformed JSON: {error.msg}", path=file, line=error.lineno) from None
    for name in ("problem", "solution"):
        if not isinstance(values, dict) or not isinstance(values.get(name), str):
            raise InvalidInput("is missing or no text", path=file, line=1, field=name)
    return {"problem": values["problem"], "solution": values["solution"]}


def _line(data: bytes, position: int) -> int:
    return 1 + data.count(b"\n", 0, position)


def _why_no_answer(answer: str | None) -> str:
    if answer is None:
        return r"has no \boxed{...} that closes, so no final answer"
    return r"has an empty \boxed{}: no final answer; leave such problems out with --skip-empty-answers"
