"""From finished files to one immutable version of a data set."""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from baldistill.artifacts.layout import dataset_folder, dataset_manifest
from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.datasets.examples import Dataset
from baldistill.datasets.side_files import SideFile
from baldistill.datasets.storage import dataset_attributes, dataset_of, latest_version, record_import
from baldistill.datasets.summary import SplitSummary, domain_counts, labels_of
from baldistill.errors import InvalidInput, StorageFull
from baldistill.specs.runspec import Slug


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDraft:
    """A version before it is stored: `pool.parquet` and `test.parquet` lie in `scratch`.

    removed: rows left out, by reason.   given: rows of each domain before that.   held_out: how test items were chosen where there was no test file.
    side: files beside pool and test, by role.
    """

    scratch: Path
    pool: SplitSummary
    test: SplitSummary
    removed: Mapping[str, int]
    given: Mapping[str, int]
    held_out: Mapping[str, Any] | None = None
    side: Mapping[str, SideFile] | None = None

    @property
    def version(self) -> str:
        """Return the hash that names the content."""
        side = "".join(f"{role}:{file.sha256}" for role, file in sorted((self.side or {}).items()))
        return hashlib.sha256(f"{self.pool.sha256}{self.test.sha256}{side}".encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """created: False where this very content was there already.   became_latest: False where it was the newest already.

    removed: rows of *these* files that were dropped, by reason; `dataset.removed` is of the import that created it.
    """

    dataset: Dataset
    created: bool
    became_latest: bool
    removed: Mapping[str, int]


def store_version(store: ArtifactStore, draft: VersionDraft, *, tenant: str, name: str) -> ImportResult:
    """Store a version and make it the newest; the same content again changes nothing. The manifest is written last."""
    version = draft.version
    key = dataset_manifest(tenant=tenant, name=name, version=version)
    manifest = store.find_manifest(key)
    created = manifest is None
    if manifest is None:
        folder = dataset_folder(tenant=tenant, name=name, version=version)
        local = {
            "pool": (draft.scratch / "pool.parquet", draft.pool.count),
            "test": (draft.scratch / "test.parquet", draft.test.count),
            **{role: (file.path, file.rows) for role, file in (draft.side or {}).items()},
        }
        files = {
            role: store.put_file(folder=folder, name=f"{role}.parquet", source=path, rows=rows)
            for role, (path, rows) in local.items()
        }
        attributes = dataset_attributes(
            domains=domain_counts(draft.pool, draft.test),
            labels=labels_of(draft.pool, draft.test),
            removed=draft.removed,
            held_out=draft.held_out,
            given=draft.given,
        )
        rows = draft.pool.count + draft.test.count
        manifest = store.create_manifest(Manifest(key=key, files=files, attributes=attributes, rows=rows))
    became_latest = latest_version(store, tenant=tenant, name=name) != version
    record_import(store, tenant=tenant, name=name, version=version)
    dataset = dataset_of(store, manifest, tenant=tenant, name=name, version=version)
    return ImportResult(dataset=dataset, created=created, became_latest=became_latest, removed=dict(draft.removed))


def check_name(value: str, *, field: str) -> None:
    """Raise InvalidInput where a text cannot name a data set or tenant."""
    try:
        TypeAdapter(Slug).validate_python(value)
    except ValidationError:
        reason = f"'{value}' must be lower-case letters, digits, '.', '_' or '-', at most 63, first a letter or digit"
        raise InvalidInput(reason, field=field) from None


@contextmanager
def import_scratch() -> Iterator[Path]:
    """Give a folder that is gone afterwards. Raises StorageFull where it cannot hold the rows."""
    with tempfile.TemporaryDirectory(prefix="baldistill-import-") as folder:
        try:
            yield Path(folder)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(path=folder) from error
            raise
