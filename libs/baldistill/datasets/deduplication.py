"""Which rows of a file stay: every id once, every content once, nothing that the test set asks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Set as AbstractSet
from pathlib import Path

from baldistill.datasets.examples import Example
from baldistill.errors import InvalidInput

# 128 bits: two different texts of a pool of a billion rows meet with a chance of 1e-21.
_DIGEST_BYTES = 16


def digest(*texts: str) -> bytes:
    """Return 16 bytes that stand for these texts in this order; what is remembered of a pool row."""
    joined = "".join([f"{len(text)}:{text}" for text in texts])
    return hashlib.blake2b(joined.encode(), digest_size=_DIGEST_BYTES).digest()


class PoolFilter:
    """Lets through the rows that belong in the pool and counts the others.

    duplicate: the same id with the same content, or the same (domain, input, answer) under another id; the first stays.
    in_test: the input is one of the test set's.
    Memory: about 250 bytes a row, whatever its length.
    """

    def __init__(self, *, test_inputs: AbstractSet[bytes] = frozenset()) -> None:
        self.removed: Counter[str] = Counter({"duplicate": 0, "in_test": 0})
        self.given: Counter[str] = Counter()
        self._test_inputs = test_inputs
        self._ids = SeenIds()
        self._contents: set[bytes] = set()

    def keeps(self, example: Example, *, path: Path, line: int) -> bool:
        """Tell whether a row stays. Raises InvalidInput for an id that stood above another content."""
        self.given[example.domain] += 1
        content = digest(example.domain, example.input, example.answer)
        if self._ids.is_repeated(example.example_id, content, path=path, line=line) or content in self._contents:
            self.removed["duplicate"] += 1
            return False
        self._contents.add(content)
        if self._test_inputs and digest(example.input) in self._test_inputs:
            self.removed["in_test"] += 1
            return False
        return True


class GivenTestFilter:
    """Lets through every test row but literal repetitions (`test_duplicate`); remembers the inputs.

    A published test set is left as it is: the same content under another id stays, so that figures compare.
    """

    def __init__(self) -> None:
        self.removed: Counter[str] = Counter({"test_duplicate": 0})
        self.given: Counter[str] = Counter()
        self.inputs: set[bytes] = set()
        self._ids = SeenIds()

    def keeps(self, example: Example, *, path: Path, line: int) -> bool:
        """Tell whether a row stays. Raises InvalidInput for an id that stood above another content."""
        self.given[example.domain] += 1
        content = digest(example.domain, example.input, example.answer)
        if self._ids.is_repeated(example.example_id, content, path=path, line=line):
            self.removed["test_duplicate"] += 1
            return False
        self.inputs.add(digest(example.input))
        return True


class SeenIds:
    """Remembers what content each id stood above."""

    def __init__(self) -> None:
        self._contents: dict[bytes, bytes] = {}

    def is_repeated(self, example_id: str, content: bytes, *, path: Path, line: int) -> bool:
        """Tell whether this id was there with this content. Raises InvalidInput where it had another one."""
        before = self._contents.setdefault(digest(example_id), content)
        if before is content:
            return False
        if before == content:
            return True
        reason = f"'{example_id}' stands above two rows with different content"
        raise InvalidInput(reason, path=path, line=line, field="id")
