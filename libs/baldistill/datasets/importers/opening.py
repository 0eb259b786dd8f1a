"""Which importer reads a path: by the name of the original's layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from baldistill.datasets.importers.gsm8k import gsm8k_rows
from baldistill.datasets.importers.math_folder import math_rows
from baldistill.datasets.importers.original_rows import OriginalRows
from baldistill.datasets.importers.reuters_sgml import ReutersView, reuters_rows
from baldistill.datasets.importers.topic_text import topic_text_rows
from baldistill.datasets.importers.trec_labels import trec_rows
from baldistill.errors import InvalidInput


class OriginalLayout(Enum):
    """Layouts of published data sets."""

    REUTERS_SGML = "reuters-sgml"
    TOPIC_TEXT = "topic-text"
    MATH_FOLDER = "math-folder"
    GSM8K = "gsm8k"
    TREC = "trec"


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalOptions:
    """What an importer may be told. name: of the data set, part of ids where a layout has none of its own."""

    name: str = "row"
    reuters: ReutersView = ReutersView.R52
    skip_empty_answers: bool = False


# These hold both splits in one place.
_BOTH_SPLITS = frozenset({OriginalLayout.REUTERS_SGML, OriginalLayout.MATH_FOLDER})


def open_original(
    train: Path, test: Path | None, *, layout: OriginalLayout, options: OriginalOptions
) -> tuple[OriginalRows, OriginalRows | None]:
    """Return the rows of train and test; test is None where a part of train is to be held out. Raises InvalidInput."""
    for path in (train, test):
        if path is not None and not path.exists():
            raise InvalidInput("no such file", path=path)
    if layout is OriginalLayout.REUTERS_SGML:
        if test is not None:
            raise InvalidInput("the files say themselves which documents are of the test set", path=test, field="test")
        splits = reuters_rows(train, view=options.reuters)
        return splits["train"], splits["test"]
    if layout in _BOTH_SPLITS and test is None:
        test = train
    reader = _reader(layout, options)
    return reader(train, "train"), None if test is None else reader(test, "test")


def _reader(layout: OriginalLayout, options: OriginalOptions) -> Callable[[Path, str], OriginalRows]:
    if layout is OriginalLayout.MATH_FOLDER:
        return lambda path, split: math_rows(path, split=split, skip_empty_answers=options.skip_empty_answers)
    if layout is OriginalLayout.GSM8K:
        return lambda path, split: gsm8k_rows(path, split=split)
    if layout is OriginalLayout.TREC:
        return lambda path, split: trec_rows(path, split=split)
    return lambda path, split: topic_text_rows(path, split=split, name=options.name)
