"""Rows out of Arrow record batches, as Parquet files and saved data sets hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from baldistill.datasets.sources.rows import SourceRow
from baldistill.errors import InvalidInput

# Bounds memory while reading; has no influence on what is read.
ROWS_PER_BATCH = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetRows:
    """The RowSource of a Parquet file; reads only the wanted columns. A row's line is its number."""

    path: Path
    wanted: Sequence[str]
    unit: str = "rows"

    @property
    def total(self) -> int:
        with readable(self.path), pq.ParquetFile(self.path) as file:
            return int(file.metadata.num_rows)

    def columns(self) -> tuple[str, ...] | None:
        with readable(self.path), pq.ParquetFile(self.path) as file:
            return tuple(file.schema_arrow.names)

    def rows(self) -> Iterator[SourceRow]:
        present = [name for name in self.columns() or () if name in self.wanted]
        done = 0
        with readable(self.path), pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, columns=present):
                for line, values in batch_rows(batch, path=self.path, first_line=done + 1):
                    yield SourceRow(path=self.path, line=line, values=values, position=line)
                done += batch.num_rows


def batch_rows(batch: Any, *, path: Path, first_line: int) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Yield (row number, values) of a record batch. Raises InvalidInput for text that is not UTF-8."""
    names = batch.schema.names
    columns = [
        _values(column, name=name, path=path, first_line=first_line)
        for name, column in zip(names, batch.columns, strict=True)
    ]
    for offset, cells in enumerate(zip(*columns, strict=True)):
        yield first_line + offset, dict(zip(names, cells, strict=True))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what Arrow says of a damaged file into one line. Errors of the disk itself stay what they are."""
    try:
        yield
    except pa.ArrowInvalid as error:
        raise InvalidInput(f"cannot be read: {_first_line(error)}", path=path) from None
    except OSError as error:
        # Arrow raises a bare OSError for damaged pages; the system's errors have a number.
        if error.errno is not None:
            raise
        raise InvalidInput(f"cannot be read: {_first_line(error)}", path=path) from None


def _values(column: Any, *, name: str, path: Path, first_line: int) -> list[object]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        line = next(first_line + row for row in range(len(column)) if not _is_text(column[row]))
        raise InvalidInput("not UTF-8", path=path, line=line, field=name) from None


def _is_text(scalar: Any) -> bool:
    try:
        scalar.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
