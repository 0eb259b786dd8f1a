"""What a version holds beside pool and test, never mixed into them: rationales, accepted answers, oracle items."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from baldistill.artifacts.ports import ArtifactRef, ArtifactStore
from baldistill.artifacts.schemas import ALIASES, RATIONALES
from baldistill.artifacts.tables import ROWS_PER_GROUP, read_table, write_table
from baldistill.datasets.examples import Dataset
from baldistill.datasets.sources.jsonl import JsonLines
from baldistill.datasets.sources.rows import SourceRow
from baldistill.errors import InvalidInput

# Roles of files in a version's manifest.
ORACLE_ROLE, RATIONALES_ROLE, ALIASES_ROLE = "oracle", "rationales", "aliases"


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFile:
    """A finished Parquet file. sha256: of its content, not of its bytes."""

    path: Path
    rows: int
    sha256: str


class RationaleFile:
    """Collects human rationales by id while rows pass by; at most a row group is in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[dict[str, str]] = []
        self._writer: pq.ParquetWriter | None = None
        self._digest = hashlib.sha256()
        self._rows = 0

    def add(self, example_id: str, rationale: str) -> None:
        """Take note of one rationale; an empty one is none."""
        if not rationale.strip():
            return
        self._pending.append({"id": example_id, "rationale": rationale})
        self._digest.update(_framed(example_id, rationale))
        self._rows += 1
        if len(self._pending) >= ROWS_PER_GROUP:
            self._flush()

    def finish(self) -> SideFile | None:
        """Close the file; None where there was no rationale."""
        self._flush()
        if self._writer is None:
            return None
        self._writer.close()
        return SideFile(path=self._path, rows=self._rows, sha256=self._digest.hexdigest())

    def _flush(self) -> None:
        if self._pending:
            self._writer = self._writer or pq.ParquetWriter(self._path, RATIONALES, compression="zstd")
            self._writer.write_table(pa.Table.from_pylist(self._pending, schema=RATIONALES))
            self._pending = []


def rationale_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, rationale) of a JSONL file that lies beside a data set. Raises InvalidInput by line and field."""
    for row in JsonLines(path=path).rows():
        yield _text(row, "id"), _text(row, "rationale")


def alias_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield {id, answers} of a JSONL file: every accepted answer of an item. Raises InvalidInput by line and field."""
    for row in JsonLines(path=path).rows():
        answers = row.values.get("answers")
        if not isinstance(answers, list) or not answers or not all(isinstance(one, str) for one in answers):
            raise InvalidInput("expected a list of one text or more", path=row.path, line=row.line, field="answers")
        yield {"id": _text(row, "id"), "answers": answers}


def write_aliases(path: Path, rows: Iterable[Mapping[str, Any]]) -> SideFile:
    """Write accepted answers by id."""
    digest = hashlib.sha256()

    def counted() -> Iterator[Mapping[str, Any]]:
        for row in rows:
            digest.update(_framed(row["id"], *row["answers"]))
            yield row

    count = write_table(path, schema=ALIASES, rows=counted())
    return SideFile(path=path, rows=count, sha256=digest.hexdigest())


def read_rationales(store: ArtifactStore, ref: ArtifactRef) -> dict[str, str]:
    """Return a version's human rationales by example id."""
    return {row["id"]: row["rationale"] for row in read_table(store, ref)}


def read_aliases(store: ArtifactStore, ref: ArtifactRef) -> dict[str, Sequence[str]]:
    """Return all accepted answers by example id."""
    return {row["id"]: row["answers"] for row in read_table(store, ref)}


def accepted_answers(store: ArtifactStore, dataset: Dataset) -> dict[str, Sequence[str]]:
    """Return all accepted answers by example id; nothing for a version that came without such a file."""
    return {} if dataset.aliases is None else read_aliases(store, dataset.aliases)


def _text(row: SourceRow, name: str) -> str:
    value = row.values.get(name)
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput("is missing, empty or no text", path=row.path, line=row.line, field=name)
    return value


def _framed(*texts: str) -> bytes:
    return "".join([f"{len(text)}:{text}" for text in texts]).encode()
