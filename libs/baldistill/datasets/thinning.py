"""Stores a long tail cut out of another data set as a version of its own, rationales and accepted answers with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from baldistill.artifacts.ports import ArtifactStore
from baldistill.artifacts.schemas import EXAMPLES
from baldistill.artifacts.tables import read_table, write_table
from baldistill.datasets.beside import write_oracle
from baldistill.datasets.examples import Dataset, Example
from baldistill.datasets.longtail import Ladder, LongTail, cut_long_tail
from baldistill.datasets.side_files import (
    ALIASES_ROLE,
    ORACLE_ROLE,
    RATIONALES_ROLE,
    RationaleFile,
    SideFile,
    write_aliases,
)
from baldistill.datasets.storage import iter_examples
from baldistill.datasets.summary import SplitSummary
from baldistill.datasets.versions import ImportResult, VersionDraft, check_name, import_scratch, store_version


def store_long_tail(store: ArtifactStore, source: Dataset, ladder: Ladder, *, name: str) -> ImportResult:
    """Cut a data set's pool, test and oracle items anew and store the result. Raises InvalidInput, StorageFull."""
    check_name(name, field="as")
    files = [ref for ref in (source.pool, source.test, source.oracle) if ref is not None]
    cut = cut_long_tail(chain.from_iterable(iter_examples(store, ref) for ref in files), ladder, given=source.given)
    with import_scratch() as scratch:
        side = {ORACLE_ROLE: write_oracle(scratch / "oracle.parquet", iter(cut.oracle))}
        side |= _carried_over(store, source, cut, scratch=scratch)
        draft = VersionDraft(
            scratch=scratch,
            pool=_write(scratch / "pool.parquet", cut.pool),
            test=_write(scratch / "test.parquet", cut.test),
            removed=cut.removed,
            given=Counter(one.domain for one in chain(cut.pool, cut.test)),
            side=side,
        )
        return store_version(store, draft, tenant=source.tenant, name=name)


def _write(path: Path, examples: Sequence[Example]) -> SplitSummary:
    summary = SplitSummary()
    write_table(path, schema=EXAMPLES, rows=summary.rows(examples))
    return summary


def _carried_over(store: ArtifactStore, source: Dataset, cut: LongTail, *, scratch: Path) -> dict[str, SideFile]:
    known = {one.example_id for one in chain(cut.pool, cut.test, cut.oracle)}
    side = {}
    if source.rationales is not None:
        rationales = RationaleFile(scratch / "rationales.parquet")
        for row in read_table(store, source.rationales):
            if row["id"] in known:
                rationales.add(row["id"], row["rationale"])
        if (file := rationales.finish()) is not None:
            side[RATIONALES_ROLE] = file
    if source.aliases is not None:
        rows = (row for row in read_table(store, source.aliases) if row["id"] in known)
        side[ALIASES_ROLE] = write_aliases(scratch / "aliases.parquet", rows)
    return side
