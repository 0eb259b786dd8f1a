"""Import: from a person's files to one immutable version of a data set. Streamed; all checked before anything is stored."""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from baldistill.artifacts.layout import dataset_folder, dataset_manifest
from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.datasets.examples import Dataset
from baldistill.datasets.fields import FieldMap
from baldistill.datasets.held_out import LARGEST_SHARE, checked_share
from baldistill.datasets.reading import SplitReader, Splits
from baldistill.datasets.sources.formats import SourceFormat, open_sources
from baldistill.datasets.storage import dataset_attributes, dataset_of, latest_version, record_import
from baldistill.datasets.summary import domain_counts, labels_of
from baldistill.errors import InvalidInput, StorageFull
from baldistill.runtime.progress import ProgressSink, no_progress
from baldistill.specs.runspec import Slug


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """created: False where this very content was there already.   became_latest: False where it was the newest already.

    removed: rows of *these* files that were dropped, by reason; `dataset.removed` is of the import that created it.
    """

    dataset: Dataset
    created: bool
    became_latest: bool
    removed: Mapping[str, int]


def import_dataset(
    store: ArtifactStore,
    *,
    tenant: str,
    name: str,
    train: Path,
    test: Path | None = None,
    source_format: SourceFormat = SourceFormat.AUTO,
    fields: FieldMap | None = None,
    seed: int = 1,
    held_out_share: Fraction = LARGEST_SHARE,
    progress: ProgressSink = no_progress,
) -> ImportResult:
    """Store a version of a data set and make it the newest; the same content again changes nothing.

    Without a test file floor(n_d x held_out_share) items per domain are held out, chosen by hash(seed, id).
    The rows keep the order of their file. Their manifest is written last. Memory: some 400 bytes a row, however long.
    Raises InvalidInput naming file, line and field; StorageFull.
    """
    _check_name(name, field="name")
    _check_name(tenant, field="tenant")
    checked_share(held_out_share)
    files = open_sources(train, test, source_format=source_format, columns=(fields or FieldMap()).columns())
    with _scratch() as scratch:
        reader = SplitReader(fields=fields or FieldMap(), scratch=scratch, progress=progress)
        splits = (
            reader.with_test_file(files.train, files.test)
            if files.test is not None
            else reader.with_held_out(files.train, seed=seed, share=held_out_share)
        )
        if splits.pool.count == 0:
            raise InvalidInput(_why_empty(splits), path=train)
        return _store(store, splits, scratch=scratch, tenant=tenant, name=name)


def _store(store: ArtifactStore, splits: Splits, *, scratch: Path, tenant: str, name: str) -> ImportResult:
    version = hashlib.sha256(f"{splits.pool.sha256}{splits.test.sha256}".encode()).hexdigest()[:12]
    key = dataset_manifest(tenant=tenant, name=name, version=version)
    manifest = store.find_manifest(key)
    created = manifest is None
    if manifest is None:
        folder = dataset_folder(tenant=tenant, name=name, version=version)
        files = {
            role: store.put_file(
                folder=folder, name=f"{role}.parquet", source=scratch / f"{role}.parquet", rows=split.count
            )
            for role, split in (("pool", splits.pool), ("test", splits.test))
        }
        attributes = dataset_attributes(
            domains=domain_counts(splits.pool, splits.test),
            labels=labels_of(splits.pool, splits.test),
            removed=splits.removed,
            held_out=splits.held_out,
        )
        rows = splits.pool.count + splits.test.count
        manifest = store.create_manifest(Manifest(key=key, files=files, attributes=attributes, rows=rows))
    became_latest = latest_version(store, tenant=tenant, name=name) != version
    record_import(store, tenant=tenant, name=name, version=version)
    dataset = dataset_of(store, manifest, tenant=tenant, name=name, version=version)
    return ImportResult(dataset=dataset, created=created, became_latest=became_latest, removed=dict(splits.removed))


def _why_empty(splits: Splits) -> str:
    gone = ", ".join(f"{count} {reason}" for reason, count in splits.removed.items() if count)
    return f"no row is left for the pool ({gone} removed)" if gone else "the pool is empty: the file has no rows"


def _check_name(value: str, *, field: str) -> None:
    try:
        TypeAdapter(Slug).validate_python(value)
    except ValidationError:
        reason = f"'{value}' must be lower-case letters, digits, '.', '_' or '-', at most 63, first a letter or digit"
        raise InvalidInput(reason, field=field) from None


@contextmanager
def _scratch() -> Iterator[Path]:
    """Give a folder that is gone afterwards. Raises StorageFull where it cannot hold the rows."""
    with tempfile.TemporaryDirectory(prefix="baldistill-import-") as folder:
        try:
            yield Path(folder)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(path=folder) from error
            raise
