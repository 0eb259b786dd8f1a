"""IFD by hand, and what counts as a loop."""

from __future__ import annotations

import math

import pytest
import torch

from baldistill.student.ifd import instruction_following_difficulty, is_looping


def test_ifd_is_the_ratio_of_the_perplexities() -> None:
    # PPL(y|x) = 8, PPL(y) = 16; then PPL(y|x) = 3, PPL(y) = 2.
    ifd = instruction_following_difficulty(
        torch.tensor([math.log(8), math.log(3)]), torch.tensor([math.log(16), math.log(2)])
    )
    assert ifd.tolist() == pytest.approx([0.5, 1.5], rel=1e-6)


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        instruction_following_difficulty(torch.zeros(2), torch.zeros(3))


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([], False),
        ([5] * 15, False),
        ([5] * 16, True),
        ([1, 2, 3, *[7, 8, 9, 4] * 4], True),
        ([*[7, 8, 9, 4] * 4, 1], False),
        ([7, 8, 9, 4] * 3, False),
        (list(range(64)), False),
    ],
)
def test_a_loop_is_a_block_four_times_in_a_row_over_sixteen_tokens(tokens: list[int], *, expected: bool) -> None:
    assert is_looping(tokens) is expected
