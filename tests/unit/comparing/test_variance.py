"""The share of a spread that a grouping explains: small cases by hand."""

from __future__ import annotations

import pytest

from services.cli.comparing.variance import explained_share


def test_groups_that_differ_and_have_no_spread_explain_all() -> None:
    values = [1.0, 2.0] * 20
    assert explained_share(values, blocks=["a"] * 40, groups=[int(one) for one in values]) == pytest.approx(1.0)


def test_half_of_the_variance() -> None:
    # Group means -1 and 1, and within each -1 and 1 about it: 40 squares of 2 in all, 1 of them within: 1 - (40/38) / (80/39).
    values = [mean + step for mean in (-1.0, 1.0) for step in (-1.0, 1.0)] * 10
    groups = ["low", "low", "high", "high"] * 10
    assert explained_share(values, blocks=["a"] * 40, groups=groups) == pytest.approx(1 - (40 / 38) / (80 / 39))


def test_differences_between_blocks_do_not_count() -> None:
    values = [0.0, 1.0, 10.0, 11.0] * 15
    blocks, groups = ["a", "a", "b", "b"] * 15, ["x"] * 60
    assert explained_share(values, blocks=blocks, groups=groups) == pytest.approx(0.0)


def test_groups_of_one_explain_nothing_by_their_number() -> None:
    values = [float(n) for n in range(60)]
    assert explained_share(values, blocks=["a"] * 60, groups=range(60)) is None
    # 45 of one group, 15 of one member each: the variance of 0 to 44 is 172.5, of 0 to 59 it is 305.
    groups = [n // 45 * n for n in range(60)]
    assert explained_share(values, blocks=["a"] * 60, groups=groups) == pytest.approx(1 - 172.5 / 305)


def test_without_any_variance_there_is_nothing_to_explain() -> None:
    assert explained_share([1.0] * 60, blocks=["a"] * 60, groups=["x"] * 60) is None
