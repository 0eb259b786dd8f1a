"""From sources to the two files of a data set: rows checked, filtered, split, counted, one row group in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from baldistill.artifacts.schemas import EXAMPLES
from baldistill.artifacts.tables import write_table
from baldistill.datasets.deduplication import GivenTestFilter, PoolFilter
from baldistill.datasets.examples import Example
from baldistill.datasets.fields import FieldMap
from baldistill.datasets.held_out import HeldOutChoice
from baldistill.datasets.side_files import RationaleFile
from baldistill.datasets.sources.rows import RowSource
from baldistill.datasets.storage import read_examples
from baldistill.datasets.summary import SplitSummary, table_row
from baldistill.errors import InvalidInput
from baldistill.runtime.progress import ProgressSink

# Often enough for a bar that moves, too rare to cost anything.
_ROWS_PER_REPORT = 2000


class KeepsRow(Protocol):
    """Whether a row stays. Raises InvalidInput where it contradicts an earlier one."""

    def __call__(self, example: Example, *, path: Path, line: int) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """What was read. removed: rows left out, by reason. given: rows of each domain before that.

    held_out: seed and share, None where there was a test file.
    """

    pool: SplitSummary
    test: SplitSummary
    removed: Mapping[str, int]
    given: Mapping[str, int]
    held_out: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitReader:
    """Writes `pool.parquet` and `test.parquet` into a scratch folder. rationales: takes what rows bring beside the four fields."""

    fields: FieldMap
    scratch: Path
    progress: ProgressSink
    rationales: RationaleFile

    def with_test_file(self, train: RowSource, test: RowSource) -> Splits:
        test_filter = GivenTestFilter()
        test_summary = self._write("test", self._kept(test, test_filter.keeps, step="read test"))
        if test_summary.count == 0:
            raise InvalidInput("the test file has no rows", path=test.path)
        pool_filter = PoolFilter(test_inputs=test_filter.inputs)
        pool_summary = self._write("pool", self._kept(train, pool_filter.keeps, step="read train"))
        removed = {**pool_filter.removed, **test_filter.removed}
        return Splits(
            pool=pool_summary,
            test=test_summary,
            removed=removed,
            given=pool_filter.given + test_filter.given,
            held_out=None,
        )

    def with_held_out(self, train: RowSource, *, seed: int, share: Fraction) -> Splits:
        choice = HeldOutChoice(seed=seed, share=share)
        pool_filter = PoolFilter()

        def noted() -> Iterator[Example]:
            for example in self._kept(train, pool_filter.keeps, step="read train"):
                choice.add(example)
                yield example

        rows = write_table(self.scratch / "rows.parquet", schema=EXAMPLES, rows=map(table_row, noted()))
        mask = choice.mask()
        test_summary = self._write("test", self._where(mask, rows=rows, step="hold out test items"))
        pool_summary = self._write("pool", self._where(~mask, rows=rows, step="write pool"))
        held_out = {"seed": seed, "share": str(share)}
        return Splits(
            pool=pool_summary,
            test=test_summary,
            removed=dict(pool_filter.removed),
            given=pool_filter.given,
            held_out=held_out,
        )

    def _kept(self, source: RowSource, keeps: KeepsRow, *, step: str) -> Iterator[Example]:
        self.fields.check_columns(source)
        total = source.total
        for number, row in enumerate(source.rows(), start=1):
            example = self.fields.example(row, number=number)
            if keeps(example, path=row.path, line=row.line):
                if row.values.get("rationale"):
                    self.rationales.add(example.example_id, str(row.values["rationale"]))
                yield example
            if number % _ROWS_PER_REPORT == 0:
                self.progress(step=step, done=row.position, total=total, unit=source.unit)
        self.progress(step=step, done=total, total=total, unit=source.unit)

    def _where(self, mask: npt.NDArray[np.bool_], *, rows: int, step: str) -> Iterator[Example]:
        for number, example in enumerate(itertools.compress(read_examples(self.scratch / "rows.parquet"), mask)):
            yield example
            if number % _ROWS_PER_REPORT == 0:
                self.progress(step=step, done=number, total=rows, unit="rows")
        self.progress(step=step, done=rows, total=rows, unit="rows")

    def _write(self, stem: str, examples: Iterator[Example]) -> SplitSummary:
        summary = SplitSummary()
        write_table(self.scratch / f"{stem}.parquet", schema=EXAMPLES, rows=summary.rows(examples))
        return summary
