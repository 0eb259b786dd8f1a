"""The RowSource of a published data set: rows that an importer reads, with the four fields named as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from baldistill.datasets.sources.rows import SourceRow

_COLUMNS = ("id", "domain", "input", "answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalRows:
    """read: gives the rows from the start, each time it is called.   path: what a person named."""

    path: Path
    read: Callable[[], Iterator[SourceRow]]
    unit: str = "bytes"

    @property
    def total(self) -> int:
        return (
            sum(file.stat().st_size for file in self.path.rglob("*"))
            if self.path.is_dir()
            else self.path.stat().st_size
        )

    def columns(self) -> tuple[str, ...] | None:
        return _COLUMNS

    def rows(self) -> Iterator[SourceRow]:
        return self.read()
