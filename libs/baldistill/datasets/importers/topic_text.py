"""`topic<TAB>text`, one document a line: the layout of the published R8 and R52."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from baldistill.datasets.importers.original_rows import OriginalRows
from baldistill.datasets.sources.rows import SourceRow
from baldistill.datasets.sources.text_lines import read_lines
from baldistill.errors import InvalidInput


def topic_text_rows(path: Path, *, split: str, name: str) -> OriginalRows:
    """Return the rows of a file. Ids are `<name>-<split>-<number of the document from 0>`."""

    def read() -> Iterator[SourceRow]:
        number = 0
        for line, text, position in read_lines(path):
            if not text.strip():
                continue
            topic, tab, document = text.rstrip("\r\n").partition("\t")
            if not tab:
                reason = "no tab: expected a topic, a tab and the text"
                raise InvalidInput(f"{reason}, found {text.strip()[:40]!r}", path=path, line=line)
            if len(topic.split()) != 1:
                raise InvalidInput(
                    f"{topic.strip()!r} is no topic: expected one word before the tab", path=path, line=line
                )
            values = {
                "id": f"{name}-{split}-{number}",
                "domain": topic.strip(),
                "input": document.strip(),
                "answer": topic.strip(),
            }
            yield SourceRow(path=path, line=line, values=values, position=position)
            number += 1

    return OriginalRows(path=path, read=read)
