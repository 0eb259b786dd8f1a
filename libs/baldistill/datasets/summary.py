"""What is counted while the rows of a data set are written."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from baldistill.datasets.examples import DomainCounts, Example

# More distinct answers than this are free text, not labels (Dataset.labels).
MOST_LABELS = 1000


class SplitSummary:
    """Counts, longest texts, answers and content hash of one split, filled while its rows pass through `rows`."""

    def __init__(self) -> None:
        self.sizes: Counter[str] = Counter()
        self.longest_input_bytes: dict[str, int] = {}
        self.longest_answer_bytes: dict[str, int] = {}
        self.answers: set[str] = set()
        self._digest = hashlib.sha256()

    def rows(self, examples: Iterable[Example]) -> Iterator[dict[str, str]]:
        """Yield the examples as table rows, counting each."""
        for example in examples:
            self._add(example)
            yield table_row(example)

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.sizes.total()

    @property
    def sha256(self) -> str:
        """Hash of all fields in their order: it knows the content, not how a file happens to hold it."""
        return self._digest.hexdigest()

    def _add(self, example: Example) -> None:
        domain = example.domain
        self.sizes[domain] += 1
        self.longest_input_bytes[domain] = max(self.longest_input_bytes.get(domain, 0), _bytes(example.input))
        self.longest_answer_bytes[domain] = max(self.longest_answer_bytes.get(domain, 0), _bytes(example.answer))
        if len(self.answers) <= MOST_LABELS:
            self.answers.add(example.answer)
        fields = (example.example_id, domain, example.input, example.answer)
        self._digest.update("".join([f"{len(text)}:{text}" for text in fields]).encode())


def table_row(example: Example) -> dict[str, str]:
    """Return an example in the columns of `schemas.EXAMPLES`."""
    return {"id": example.example_id, "domain": example.domain, "input": example.input, "answer": example.answer}


def domain_counts(pool: SplitSummary, test: SplitSummary) -> dict[str, DomainCounts]:
    """Return the sizes of every domain of the pool or the test set, in name order."""
    return {
        domain: DomainCounts(
            pool=pool.sizes[domain],
            test=test.sizes[domain],
            longest_input_bytes=max(split.longest_input_bytes.get(domain, 0) for split in (pool, test)),
            longest_answer_bytes=max(split.longest_answer_bytes.get(domain, 0) for split in (pool, test)),
        )
        for domain in sorted(pool.sizes.keys() | test.sizes.keys())
    }


def labels_of(pool: SplitSummary, test: SplitSummary) -> tuple[str, ...]:
    """Return the distinct answers in sorted order, or nothing where there are too many to be labels."""
    answers = set(chain(pool.answers, test.answers))
    return tuple(sorted(answers)) if len(answers) <= MOST_LABELS else ()


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
