"""Which source reads a path: by the format that was named, or by what the path looks like."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from baldistill.datasets.importers.opening import OriginalLayout, OriginalOptions, open_original
from baldistill.datasets.sources.columnar import ParquetRows
from baldistill.datasets.sources.delimited import CommaSeparated
from baldistill.datasets.sources.jsonl import JsonLines
from baldistill.datasets.sources.rows import RowSource
from baldistill.datasets.sources.saved_dataset import SavedDataset, is_saved_dataset, split_folder, split_names
from baldistill.errors import InvalidInput


class SourceFormat(Enum):
    """How rows are written. HF: a folder that Hugging Face `datasets` saved. The last five: layouts of published sets."""

    AUTO = "auto"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    HF = "hf"
    REUTERS_SGML = OriginalLayout.REUTERS_SGML.value
    TOPIC_TEXT = OriginalLayout.TOPIC_TEXT.value
    MATH_FOLDER = OriginalLayout.MATH_FOLDER.value
    GSM8K = OriginalLayout.GSM8K.value
    TREC = OriginalLayout.TREC.value

    @property
    def original(self) -> OriginalLayout | None:
        """The layout of a published data set, None for formats that rows of any kind come in."""
        return OriginalLayout(self.value) if self.value in {layout.value for layout in OriginalLayout} else None


_BY_SUFFIX = {
    ".jsonl": SourceFormat.JSONL,
    ".ndjson": SourceFormat.JSONL,
    ".csv": SourceFormat.CSV,
    ".parquet": SourceFormat.PARQUET,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFiles:
    """What a data set is imported from. test: None where a split is to be held out."""

    train: RowSource
    test: RowSource | None


def open_sources(
    train: Path,
    test: Path | None,
    *,
    columns: Sequence[str],
    source_format: SourceFormat = SourceFormat.AUTO,
    options: OriginalOptions | None = None,
) -> SourceFiles:
    """Return the sources of the paths that a person named; a saved DatasetDict brings its own test split.

    columns: the fields that will be asked for; others are not read where the format allows it.   options: for the
    importers of published layouts.   Raises InvalidInput where a path is missing or its format is not known.
    """
    if source_format.original is not None:
        rows, test_rows = open_original(
            train, test, layout=source_format.original, options=options or OriginalOptions()
        )
        return SourceFiles(train=rows, test=test_rows)
    if test is None and train.is_dir() and "test" in split_names(train):
        test = train
    return SourceFiles(
        train=_open(train, split="train", columns=columns, source_format=source_format),
        test=None if test is None else _open(test, split="test", columns=columns, source_format=source_format),
    )


def _open(path: Path, *, split: str, columns: Sequence[str], source_format: SourceFormat) -> RowSource:
    if not path.exists():
        raise InvalidInput("no such file", path=path)
    if not os.access(path, os.R_OK):
        raise InvalidInput("cannot be read: permission denied", path=path)
    chosen = _detected(path) if source_format is SourceFormat.AUTO else source_format
    if path.is_dir() != (chosen is SourceFormat.HF):
        reason = "is a folder" if path.is_dir() else "is not a folder"
        raise InvalidInput(f"{reason}, which format {chosen.value} cannot be", path=path)
    if chosen is SourceFormat.JSONL:
        return JsonLines(path=path)
    if chosen is SourceFormat.CSV:
        return CommaSeparated(path=path)
    if chosen is SourceFormat.PARQUET:
        return ParquetRows(path=path, wanted=columns)
    folder = split_folder(path, split)
    if folder is None:
        raise InvalidInput(f"has no split '{split}', only {', '.join(split_names(path))}; name one's folder", path=path)
    return SavedDataset(path=folder, wanted=columns)


def _detected(path: Path) -> SourceFormat:
    if path.is_dir():
        if is_saved_dataset(path):
            return SourceFormat.HF
        raise InvalidInput("is a folder, but not one that datasets' save_to_disk() wrote", path=path)
    name = path.with_suffix("") if path.suffix == ".gz" else path
    found = _BY_SUFFIX.get(name.suffix.lower())
    if found is None:
        known = ", ".join(_BY_SUFFIX)
        reason = f"cannot tell the format from the name; known: {known}, text also as .gz; or name it (--format)"
        raise InvalidInput(reason, path=path)
    return found
