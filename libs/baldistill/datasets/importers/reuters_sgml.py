"""Reuters-21578 in its SGML files, ModApte split: R52, and Reuters-90 as pairs or as documents (DESIGN 2.7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

from baldistill.datasets.importers.original_files import read_original_files
from baldistill.datasets.importers.original_rows import OriginalRows
from baldistill.datasets.importers.sgml_documents import ReutersDocument, read_documents
from baldistill.datasets.sources.rows import SourceRow
from baldistill.errors import InvalidInput

LABEL_SEPARATOR = "; "
_SPLITS = {"TRAIN": "train", "TEST": "test"}


class ReutersView(Enum):
    """What is an example.

    R52: a document with exactly one of the topics.   PAIRS: a document with one of its topics, as the paper counts.
    DOCUMENTS: a document with all its topics; its domain is the one that is rarest in train.
    """

    R52 = "r52"
    PAIRS = "pairs"
    DOCUMENTS = "documents"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModApte:
    """The topical documents by split, each with those of its topics that occur in both splits: 90 of them."""

    train: tuple[ReutersDocument, ...]
    test: tuple[ReutersDocument, ...]
    topics: frozenset[str]


def reuters_rows(path: Path, *, view: ReutersView) -> dict[str, OriginalRows]:
    """Return the rows of both splits from a .tar.gz, a folder of .sgm files, or one of them.

    Raises InvalidInput by file and line.
    """
    split = read_modapte(path)
    return {
        name: OriginalRows(path=path, read=partial(_source_rows, split, documents, view=view))
        for name, documents in (("train", split.train), ("test", split.test))
    }


def read_modapte(path: Path) -> ModApte:
    """Read all files and split them. Raises InvalidInput where a split is empty or shares no topic with the other."""
    splits: dict[str, list[ReutersDocument]] = {"train": [], "test": []}
    for file, data in read_original_files(path, suffix=".sgm"):
        for document in read_documents(file, data):
            if document.is_topical and document.lewis_split in _SPLITS:
                splits[_SPLITS[document.lewis_split]].append(document)
    topics = _topics(splits["train"]) & _topics(splits["test"])
    if not topics:
        reason = "no topic occurs both in train and in test (ModApte); are some of the 22 files missing?"
        raise InvalidInput(reason, path=path)
    return ModApte(train=tuple(splits["train"]), test=tuple(splits["test"]), topics=topics)


def _r52(split: ModApte, documents: Iterable[ReutersDocument]) -> Iterator[tuple[ReutersDocument, dict[str, str]]]:
    topics = _single(split.train, split.topics) & _single(split.test, split.topics)
    for document in documents:
        known = _known(document, split.topics)
        if len(known) == 1 and known[0] in topics:
            yield document, {"id": f"reut-{document.number}", "domain": known[0], "answer": known[0]}


def _pairs(split: ModApte, documents: Iterable[ReutersDocument]) -> Iterator[tuple[ReutersDocument, dict[str, str]]]:
    for document in documents:
        for topic in _known(document, split.topics):
            yield document, {"id": f"reut-{document.number}-{topic}", "domain": topic, "answer": topic}


def _documents(
    split: ModApte, documents: Iterable[ReutersDocument]
) -> Iterator[tuple[ReutersDocument, dict[str, str]]]:
    frequency = Counter(topic for document in split.train for topic in document.topics)
    for document in documents:
        if known := _known(document, split.topics):
            rarest = min(known, key=lambda topic: (frequency[topic], topic))
            answer = LABEL_SEPARATOR.join(sorted(known))
            yield document, {"id": f"reut-{document.number}", "domain": rarest, "answer": answer}


_EXAMPLES = {ReutersView.R52: _r52, ReutersView.PAIRS: _pairs, ReutersView.DOCUMENTS: _documents}


def _source_rows(split: ModApte, documents: Iterable[ReutersDocument], *, view: ReutersView) -> Iterator[SourceRow]:
    for document, values in _EXAMPLES[view](split, documents):
        yield SourceRow(path=document.path, line=document.line, values={**values, "input": document.text}, position=0)


def _single(documents: Iterable[ReutersDocument], topics: frozenset[str]) -> frozenset[str]:
    """Return the topics that a document has as its only one."""
    known = (_known(document, topics) for document in documents)
    return frozenset(one[0] for one in known if len(one) == 1)


def _topics(documents: Iterable[ReutersDocument]) -> frozenset[str]:
    return frozenset(topic for document in documents for topic in document.topics)


def _known(document: ReutersDocument, topics: frozenset[str]) -> list[str]:
    return [topic for topic in document.topics if topic in topics]
