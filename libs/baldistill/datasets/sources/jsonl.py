"""JSONL: one JSON object a line, blank lines allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from baldistill.datasets.sources.rows import SourceRow
from baldistill.datasets.sources.text_lines import read_lines
from baldistill.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLines:
    """The RowSource of a `.jsonl` or `.jsonl.gz` file."""

    path: Path
    unit: str = "bytes"

    @property
    def total(self) -> int:
        return self.path.stat().st_size

    def columns(self) -> tuple[str, ...] | None:
        return None

    def rows(self) -> Iterator[SourceRow]:
        for number, line, position in read_lines(self.path):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except json.JSONDecodeError as error:
                reason = f"malformed JSON: {error.msg} at column {error.colno}"
                raise InvalidInput(reason, path=self.path, line=number) from None
            except RecursionError:
                raise InvalidInput("malformed JSON: nested too deeply", path=self.path, line=number) from None
            if not isinstance(values, dict):
                raise InvalidInput("expected a JSON object", path=self.path, line=number)
            yield SourceRow(path=self.path, line=number, values=values, position=position)
