"""CSV with a header line, quoted as RFC 4180 says; fields may have line breaks."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from baldistill.datasets.sources.rows import SourceRow
from baldistill.datasets.sources.text_lines import read_lines
from baldistill.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class CommaSeparated:
    """The RowSource of a `.csv` or `.csv.gz` file."""

    path: Path
    unit: str = "bytes"

    @property
    def total(self) -> int:
        return self.path.stat().st_size

    def columns(self) -> tuple[str, ...] | None:
        return next((tuple(cells) for _, cells, _ in self._records()), ())

    def rows(self) -> Iterator[SourceRow]:
        records = self._records()
        header = next(records, (0, [], 0))[1]
        repeated = [name for name, count in Counter(header).items() if count > 1]
        if repeated:
            raise InvalidInput("stands twice in the header", path=self.path, line=1, field=repeated[0])
        for line, cells, position in records:
            if len(cells) != len(header):
                reason = f"{len(cells)} values, but the header has {len(header)} fields"
                raise InvalidInput(reason, path=self.path, line=line)
            yield SourceRow(path=self.path, line=line, values=dict(zip(header, cells, strict=True)), position=position)

    def _records(self) -> Iterator[tuple[int, list[str], int]]:
        """Yield (first line, values, bytes read) of every record that is not a blank line."""
        position = 0

        def lines() -> Iterator[str]:
            nonlocal position
            for _, line, position in read_lines(self.path):  # noqa: B007  (read by the loop below)
                yield line

        reader = csv.reader(lines(), strict=True)
        first_line = 1
        try:
            for cells in reader:
                if cells:
                    yield first_line, cells, position
                first_line = reader.line_num + 1
        except csv.Error as error:
            hint = "; use JSONL or Parquet for texts that long" if "field limit" in str(error) else ""
            raise InvalidInput(f"malformed CSV: {error}{hint}", path=self.path, line=first_line) from None
