"""Where data set versions lie in the store, which one is the newest, and how their rows are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from baldistill.artifacts.layout import dataset_import, dataset_imports, dataset_manifest, datasets_folder
from baldistill.artifacts.ports import ArtifactRef, ArtifactStore, Manifest
from baldistill.artifacts.tables import ROWS_PER_GROUP, read_batches
from baldistill.datasets.examples import Dataset, DomainCounts, Example
from baldistill.errors import InvalidInput

_EXAMPLE_COLUMNS = ["id", "domain", "input", "answer"]


def load_dataset(store: ArtifactStore, *, tenant: str, name: str, version: str) -> Dataset:
    """Return one version of a data set. Raises InvalidInput, with what is known, where there is none."""
    manifest = store.find_manifest(dataset_manifest(tenant=tenant, name=name, version=version))
    if manifest is None:
        raise InvalidInput(_unknown(store, tenant=tenant, name=name, version=version))
    return dataset_of(store, manifest, tenant=tenant, name=name, version=version)


def latest_version(store: ArtifactStore, *, tenant: str, name: str) -> str | None:
    """Return the version that was imported last, or None where the name is unknown.

    Versions are hashes and have no order, and a clock is none that can be trusted: every import that changes what is
    newest creates the next entry of a numbered log, so importing an older version again makes it the newest again.
    """
    log = list(store.list_manifests(prefix=dataset_imports(tenant=tenant, name=name)))
    if not log:
        return None
    entry = store.find_manifest(log[-1])
    return None if entry is None else str(entry.attributes["version"])


def record_import(store: ArtifactStore, *, tenant: str, name: str, version: str) -> None:
    """Make `version` the newest of its data set. Of two imports at the same moment one is the last, both are kept."""
    while latest_version(store, tenant=tenant, name=name) != version:
        sequence = 1 + sum(1 for _ in store.list_manifests(prefix=dataset_imports(tenant=tenant, name=name)))
        key = dataset_import(tenant=tenant, name=name, sequence=sequence)
        if store.create_manifest(Manifest(key=key, files={}, attributes={"version": version})).attributes == {
            "version": version
        }:
            return


def list_versions(store: ArtifactStore, *, tenant: str, name: str) -> list[str]:
    """Return the versions of a data set, oldest import first."""
    log = store.list_manifests(prefix=dataset_imports(tenant=tenant, name=name))
    entries = (store.find_manifest(key) for key in log)
    return list(dict.fromkeys(str(entry.attributes["version"]) for entry in entries if entry is not None))


def list_datasets(store: ArtifactStore, *, tenant: str) -> dict[str, list[str]]:
    """Return the versions of every data set of a tenant, by name, oldest import first."""
    folder = datasets_folder(tenant=tenant)
    keys = store.list_manifests(prefix=folder)
    names = sorted({key.removeprefix(folder).strip("/").split("/")[0] for key in keys})
    known = {name: list_versions(store, tenant=tenant, name=name) for name in names}
    return {name: versions for name, versions in known.items() if versions}


def iter_examples(store: ArtifactStore, ref: ArtifactRef) -> Iterator[Example]:
    """Yield the examples of a pool or test file in their order, one row group in memory at a time."""
    return _examples(read_batches(store, ref, columns=_EXAMPLE_COLUMNS))


def read_examples(path: Path) -> Iterator[Example]:
    """Yield the examples of a local Parquet file in their order, one row group in memory at a time."""
    with pq.ParquetFile(path) as table:
        yield from _examples(table.iter_batches(batch_size=ROWS_PER_GROUP, columns=_EXAMPLE_COLUMNS))


def _examples(batches: Iterable[pa.RecordBatch]) -> Iterator[Example]:
    for batch in batches:
        # Whole columns at once: a dictionary per row would cost more than everything else.
        for example_id, domain, text, answer in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield Example(example_id=example_id, domain=domain, input=text, answer=answer)


def dataset_attributes(
    *,
    domains: Mapping[str, DomainCounts],
    labels: tuple[str, ...],
    removed: Mapping[str, int],
    held_out: Mapping[str, Any] | None,
    given: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return what a version's manifest says beside its files; `dataset_of` reads it.

    held_out: seed and share of the split where there was no test file.   given: rows of each domain before any was removed.
    """
    return {
        "domains": {
            name: {
                "pool": counts.pool,
                "test": counts.test,
                "longest_input_bytes": counts.longest_input_bytes,
                "longest_answer_bytes": counts.longest_answer_bytes,
            }
            for name, counts in sorted(domains.items())
        },
        "labels": list(labels),
        "removed": dict(removed),
        "held_out": dict(held_out) if held_out is not None else None,
        "given": dict(sorted((given or {}).items())),
    }


def dataset_of(store: ArtifactStore, manifest: Manifest, *, tenant: str, name: str, version: str) -> Dataset:
    """Return the data set that a version's manifest describes."""
    attributes = cast("Mapping[str, Any]", manifest.attributes)
    return Dataset(
        tenant=tenant,
        name=name,
        version=version,
        sha256=store.manifest_ref(manifest).sha256,
        pool=manifest.files["pool"],
        test=manifest.files["test"],
        domains={domain: DomainCounts(**counts) for domain, counts in attributes["domains"].items()},
        labels=tuple(attributes["labels"]),
        removed=dict(attributes["removed"]),
        given=dict(attributes.get("given", {})),
        oracle=manifest.files.get("oracle"),
        rationales=manifest.files.get("rationales"),
        aliases=manifest.files.get("aliases"),
    )


def _unknown(store: ArtifactStore, *, tenant: str, name: str, version: str) -> str:
    known = list_datasets(store, tenant=tenant)
    if name in known:
        return f"data set '{name}' has no version '{version}'; known: {', '.join(known[name])}"
    listed = f"known: {', '.join(known)}" if known else "none was imported yet"
    return f"no data set '{name}' in tenant '{tenant}'; {listed} (baldistill data import {name} --train FILE)"
