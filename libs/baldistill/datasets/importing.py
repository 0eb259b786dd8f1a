"""Import: from a person's files to one immutable version of a data set. Streamed; all checked before anything is stored."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from baldistill.artifacts.ports import ArtifactStore
from baldistill.datasets.beside import SidePaths, read_side_files
from baldistill.datasets.fields import FieldMap
from baldistill.datasets.held_out import LARGEST_SHARE, checked_share
from baldistill.datasets.importers.opening import OriginalOptions
from baldistill.datasets.reading import SplitReader, Splits
from baldistill.datasets.side_files import RationaleFile
from baldistill.datasets.sources.formats import SourceFormat, open_sources
from baldistill.datasets.versions import ImportResult, VersionDraft, check_name, import_scratch, store_version
from baldistill.errors import InvalidInput
from baldistill.runtime.progress import ProgressSink, no_progress

__all__ = ["ImportResult", "import_dataset"]


def import_dataset(
    store: ArtifactStore,
    *,
    tenant: str,
    name: str,
    train: Path,
    test: Path | None = None,
    source_format: SourceFormat = SourceFormat.AUTO,
    options: OriginalOptions | None = None,
    fields: FieldMap | None = None,
    beside: SidePaths | None = None,
    seed: int = 1,
    held_out_share: Fraction = LARGEST_SHARE,
    progress: ProgressSink = no_progress,
) -> ImportResult:
    """Store a version of a data set and make it the newest; the same content again changes nothing.

    Without a test file floor(n_d x held_out_share) items per domain are held out, chosen by hash(seed, id).
    The rows keep the order of their file. Their manifest is written last. Memory: some 400 bytes a row, however long.
    options: for the importers of published layouts.   beside: files with rationales, accepted answers, oracle items.
    Raises InvalidInput naming file, line and field; StorageFull.
    """
    check_name(name, field="name")
    check_name(tenant, field="tenant")
    checked_share(held_out_share)
    fields = fields or FieldMap()
    files = open_sources(
        train,
        test,
        source_format=source_format,
        columns=fields.columns(),
        options=options or OriginalOptions(name=name),
    )
    with import_scratch() as scratch:
        rationales = RationaleFile(scratch / "rationales.parquet")
        reader = SplitReader(fields=fields, scratch=scratch, progress=progress, rationales=rationales)
        splits = (
            reader.with_test_file(files.train, files.test)
            if files.test is not None
            else reader.with_held_out(files.train, seed=seed, share=held_out_share)
        )
        if splits.pool.count == 0:
            raise InvalidInput(_why_empty(splits), path=train)
        side, removed = read_side_files(beside or SidePaths(), scratch=scratch, fields=fields, rationales=rationales)
        draft = VersionDraft(
            scratch=scratch,
            pool=splits.pool,
            test=splits.test,
            removed={**splits.removed, **removed},
            held_out=splits.held_out,
            given=splits.given,
            side=side,
        )
        return store_version(store, draft, tenant=tenant, name=name)


def _why_empty(splits: Splits) -> str:
    gone = ", ".join(f"{count} {reason}" for reason, count in splits.removed.items() if count)
    return f"no row is left for the pool ({gone} removed)" if gone else "the pool is empty: the file has no rows"
