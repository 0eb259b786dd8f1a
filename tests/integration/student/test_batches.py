"""How rows are put into batches, and what is done where one does not fit into memory."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from baldistill.student.batching import evenly_long_batches, length_ordered_batches, shared_prefix
from baldistill.student.memory import halving_when_short


def test_batches_are_cut_by_rows_and_by_tokens_of_their_longest() -> None:
    lengths = [10, 50, 40, 10, 10]
    assert length_ordered_batches(lengths, batch_size=3) == [[1, 2, 0], [3, 4]]
    assert length_ordered_batches(lengths, batch_size=3, max_tokens=100) == [[1, 2], [0, 3, 4]]
    # What does not fit alone is tried alone.
    assert length_ordered_batches(lengths, batch_size=3, max_tokens=45) == [[1], [2], [0, 3, 4]]


def test_rows_are_padded_to_no_more_than_a_given_share() -> None:
    lengths = [100, 90, 84, 50, 49, 60]
    assert evenly_long_batches(lengths, max_tokens=1000, least_filled=0.85) == [
        range(2), range(2, 3), range(3, 5), range(5, 6),
    ]  # fmt: skip
    assert evenly_long_batches([10] * 5, max_tokens=20, least_filled=0.85) == [range(2), range(2, 4), range(4, 5)]


@pytest.mark.parametrize(
    ("rows", "shared"),
    [
        ([[1, 2, 3], [1, 2, 4, 5]], 2),
        # Each keeps a token of its own.
        ([[1, 2], [1, 2, 3]], 1),
        ([[1, 2], [1, 2]], 1),
        ([[1], [2]], 0),
        ([[1, 2, 3]], 0),
        ([], 0),
    ],
)
def test_the_beginning_that_all_share_leaves_each_a_token(rows: list[list[int]], shared: int) -> None:
    assert shared_prefix(rows) == shared


class SmallMemory:
    """Takes `fits` items at once and says otherwise what torch says."""

    def __init__(
        self, fits: int, message: str = "DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ) -> None:
        self.fits, self.message = fits, message

    def __call__(self, items: Sequence[int]) -> list[int]:
        if len(items) > self.fits:
            raise RuntimeError(self.message)
        return [10 * item for item in items]


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_that_is_told() -> None:
    halved: list[int] = []
    parts = list(halving_when_short(range(7), SmallMemory(2), on_halved=halved.append))
    assert [one for part, _ in parts for one in part] == list(range(7))
    assert [one for _, result in parts for one in result] == [0, 10, 20, 30, 40, 50, 60]
    assert halved == [7, 3, 4]


def test_what_does_not_fit_alone_and_other_failures_are_raised() -> None:
    with pytest.raises(RuntimeError, match="allocate"):
        list(halving_when_short([1], SmallMemory(0), on_halved=lambda _: None))
    with pytest.raises(RuntimeError, match="shapes"):
        list(halving_when_short([1, 2], SmallMemory(0, "shapes differ"), on_halved=lambda _: None))
