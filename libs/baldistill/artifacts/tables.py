"""Parquet files in the store: written as a stream, read as a stream, equal bytes for equal rows."""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from baldistill.artifacts.ports import ArtifactRef, ArtifactStore
from baldistill.artifacts.scratch import scratch_folder

# Bounds memory while streaming; part of the file's bytes, so a change is a change of every artifact.
ROWS_PER_GROUP = 8192

# A stage's selection and batch are read at every later stage. So many, so small: decoded at most about 100 MiB, mostly 5.
_SMALL_BYTES = 32 << 10
_SMALL_TABLES = 256


def store_table(
    store: ArtifactStore, *, folder: str, name: str, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]
) -> ArtifactRef:
    """Write rows as `<name>-<sha256>.parquet` under `folder`, in their order, at most one row group in memory.

    Raises: StorageFull, DependencyUnavailable.
    """
    with scratch_folder() as scratch:
        source = scratch / f"{name}.parquet"
        count = write_table(source, schema=schema, rows=rows)
        return store.put_file(folder=folder, name=source.name, source=source, rows=count)


def write_table(path: Path, *, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows to a local Parquet file in their order, at most one row group in memory; return their number."""
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(rows):
            writer.write_table(pa.Table.from_pylist(group, schema=schema), row_group_size=ROWS_PER_GROUP)
            count += len(group)
    return count


def read_table(store: ArtifactStore, ref: ArtifactRef, *, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a stored table in their order, one row group in memory at a time."""
    for batch in read_batches(store, ref, columns=columns):
        yield from batch.to_pylist()


def read_batches(
    store: ArtifactStore, ref: ArtifactRef, *, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield a stored table in its order, one row group in memory at a time; a small one from memory where it was read lately."""
    if ref.size_bytes <= _SMALL_BYTES:
        table = _small_table(store.read_bytes(ref))
        yield from (table if columns is None else table.select(columns)).to_batches()
        return
    with pq.ParquetFile(store.local_path(ref)) as file:
        yield from file.iter_batches(batch_size=ROWS_PER_GROUP, columns=columns)


@functools.lru_cache(maxsize=_SMALL_TABLES)
def _small_table(data: bytes) -> pa.Table:
    with pq.ParquetFile(io.BytesIO(data)) as file:
        return file.read(use_threads=False)


def _groups(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    iterator = iter(rows)
    while group := list(itertools.islice(iterator, ROWS_PER_GROUP)):
        yield group
