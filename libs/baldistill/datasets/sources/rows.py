"""The port of everything that rows are imported from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """One row as its file has it, unchecked.

    line: where a person finds it, from 1: the text line, or the row where the format has no lines.
    position: how far the source was read, in its own unit.
    """

    path: Path
    line: int
    values: Mapping[str, object]
    position: int


class RowSource(Protocol):
    """Rows in the order of their file, at most a block of them in memory; can be read again from the start."""

    @property
    def path(self) -> Path:
        """What a person named."""

    @property
    def total(self) -> int:
        """Where `position` ends, in `unit`."""

    @property
    def unit(self) -> str:
        """What `position` counts: bytes or rows."""

    def columns(self) -> tuple[str, ...] | None:
        """Return the names of the fields where they are known before reading, None where every row brings its own."""

    def rows(self) -> Iterator[SourceRow]:
        """Yield every row. Raises InvalidInput with file and line for what cannot be read."""
