"""TREC question classes: `COARSE:fine question`, one a line, Latin-1 (Li and Roth 2002)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from baldistill.datasets.importers.original_rows import OriginalRows
from baldistill.datasets.sources.rows import SourceRow
from baldistill.errors import InvalidInput

_LINE = re.compile(r"(?P<label>[A-Z]+:[A-Za-z]+) (?P<question>.+)")


def trec_rows(path: Path, *, split: str) -> OriginalRows:
    """Return the rows of a file. Ids are `trec-<split>-<number of the question from 0>`."""

    def read() -> Iterator[SourceRow]:
        number, position = 0, 0
        with path.open("rb") as file:
            for line, data in enumerate(file, start=1):
                position += len(data)
                text = data.decode("latin-1").strip()
                if not text:
                    continue
                match = _LINE.fullmatch(text)
                if match is None:
                    reason = f"expected COARSE:fine and a question, found {text[:40]!r}"
                    raise InvalidInput(reason, path=path, line=line)
                values = {
                    "id": f"trec-{split}-{number}",
                    "domain": match["label"],
                    "input": match["question"].strip(),
                    "answer": match["label"],
                }
                yield SourceRow(path=path, line=line, values=values, position=position)
                number += 1

    return OriginalRows(path=path, read=read)
