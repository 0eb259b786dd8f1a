"""Which source reads a path: by the format that was named, or by what the path looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from baldistill.datasets.sources.jsonl import JsonLines
from baldistill.datasets.sources.rows import RowSource
from baldistill.errors import InvalidInput


class SourceFormat(Enum):
    """How rows are written in a file."""

    AUTO = "auto"
    JSONL = "jsonl"


_BY_SUFFIX = {
    ".jsonl": SourceFormat.JSONL,
    ".ndjson": SourceFormat.JSONL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFiles:
    """What a data set is imported from. test: None where a split is to be held out."""

    train: RowSource
    test: RowSource | None


def open_sources(
    train: Path, test: Path | None, *, columns: Sequence[str], source_format: SourceFormat = SourceFormat.AUTO
) -> SourceFiles:
    """Return the sources of the paths that a person named. columns: the fields that will be asked for.

    Raises InvalidInput where a path is missing or its format is not known.
    """
    return SourceFiles(
        train=_open(train, columns=columns, source_format=source_format),
        test=None if test is None else _open(test, columns=columns, source_format=source_format),
    )


def _open(path: Path, *, columns: Sequence[str], source_format: SourceFormat) -> RowSource:
    if not path.exists():
        raise InvalidInput("no such file", path=path)
    if path.is_dir():
        raise InvalidInput("is a folder", path=path)
    chosen = _detect(path) if source_format is SourceFormat.AUTO else source_format
    if chosen is SourceFormat.JSONL:
        return JsonLines(path=path)
    raise AssertionError(chosen)


def _detect(path: Path) -> SourceFormat:
    suffixes = path.suffixes[:-1] if path.suffix == ".gz" else path.suffixes
    found = _BY_SUFFIX.get(suffixes[-1].lower()) if suffixes else None
    if found is None:
        raise InvalidInput(
            f"cannot tell the format from the name; known: {', '.join(_BY_SUFFIX)} (each also .gz), or name it",
            path=path,
        )
    return found
