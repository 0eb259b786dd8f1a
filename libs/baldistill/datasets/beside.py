"""Reads the files that a person names beside train and test, and keeps of them what belongs to this data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from baldistill.artifacts.schemas import EXAMPLES
from baldistill.artifacts.tables import write_table
from baldistill.datasets.deduplication import digest
from baldistill.datasets.examples import Example
from baldistill.datasets.fields import FieldMap
from baldistill.datasets.side_files import (
    ALIASES_ROLE,
    ORACLE_ROLE,
    RATIONALES_ROLE,
    RationaleFile,
    SideFile,
    alias_rows,
    rationale_rows,
    write_aliases,
)
from baldistill.datasets.sources.formats import open_sources
from baldistill.datasets.storage import read_examples
from baldistill.datasets.summary import SplitSummary
from baldistill.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class SidePaths:
    """rationales: JSONL with id and rationale.   aliases: JSONL with id and answers.   oracle: rows like the pool's."""

    rationales: tuple[Path, ...] = ()
    aliases: tuple[Path, ...] = ()
    oracle: Path | None = None


def read_side_files(
    paths: SidePaths, *, scratch: Path, fields: FieldMap, rationales: RationaleFile
) -> tuple[dict[str, SideFile], dict[str, int]]:
    """Return the side files by role and what was left out of them, by reason.

    Rows with an id that is not in the data set are left out. Raises InvalidInput by file, line and field.
    """
    side: dict[str, SideFile] = {}
    removed: dict[str, int] = {}
    if paths.oracle is not None:
        side[ORACLE_ROLE], removed["oracle_in_use"] = _oracle(paths.oracle, scratch=scratch, fields=fields)
    known = _ids(scratch) if paths.rationales or paths.aliases else frozenset()
    for path in paths.rationales:
        _add_rationales(rationales, path, known=known)
    if (file := rationales.finish()) is not None:
        side[RATIONALES_ROLE] = file
    if paths.aliases:
        side[ALIASES_ROLE] = _aliases(paths.aliases, scratch=scratch, known=known)
    return side, removed


def _oracle(path: Path, *, scratch: Path, fields: FieldMap) -> tuple[SideFile, int]:
    """Keep what neither pool nor test asks, by input and by id, each once."""
    _check_path(path)
    source = open_sources(path, None, columns=fields.columns()).train
    used = {digest(one.input) for split in ("pool", "test") for one in read_examples(scratch / f"{split}.parquet")}
    used |= _ids(scratch)
    removed: Counter[str] = Counter()

    def kept() -> Iterator[Example]:
        for number, row in enumerate(source.rows(), start=1):
            example = fields.example(row, number=number)
            marks = {digest(example.input), digest("id", example.example_id)}
            if marks & used:
                removed["used"] += 1
                continue
            used.update(marks)
            yield example

    return write_oracle(scratch / "oracle.parquet", kept()), removed["used"]


def write_oracle(path: Path, examples: Iterator[Example]) -> SideFile:
    """Write oracle items."""
    summary = SplitSummary()
    write_table(path, schema=EXAMPLES, rows=summary.rows(examples))
    return SideFile(path=path, rows=summary.count, sha256=summary.sha256)


def _add_rationales(file: RationaleFile, path: Path, *, known: frozenset[bytes]) -> None:
    _check_path(path)
    matched = 0
    for example_id, rationale in rationale_rows(path):
        if digest("id", example_id) in known:
            file.add(example_id, rationale)
            matched += 1
    if not matched:
        raise InvalidInput("none of its ids is in the data set", path=path, field="id")


def _aliases(paths: tuple[Path, ...], *, scratch: Path, known: frozenset[bytes]) -> SideFile:
    rows: list[Mapping[str, object]] = []
    for path in paths:
        _check_path(path)
        matched = [row for row in alias_rows(path) if digest("id", row["id"]) in known]
        if not matched:
            raise InvalidInput("none of its ids is in the data set", path=path, field="id")
        rows.extend(matched)
    return write_aliases(scratch / "aliases.parquet", rows)


def _ids(scratch: Path) -> frozenset[bytes]:
    files = [scratch / f"{split}.parquet" for split in ("pool", "test", "oracle")]
    return frozenset(digest("id", one.example_id) for file in files if file.exists() for one in read_examples(file))


def _check_path(path: Path) -> None:
    if not path.is_file():
        raise InvalidInput("no such file", path=path)
