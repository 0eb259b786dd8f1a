"""Differences and their intervals: nothing is found where there is nothing, and what is clear is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from baldistill.seeding import generator
from services.cli.comparing.bootstrap import Difference, Resamples, draw_resamples, paired_difference
from services.cli.comparing.ratios import Matrix, MeanOfRatios

DOMAINS = tuple(number // 20 for number in range(120))


def accuracy(correct: Sequence[float]) -> MeanOfRatios:
    return MeanOfRatios(numerators=np.array([correct], dtype=np.float64), denominators=np.ones((1, len(correct))))


def drawn(seeds: Sequence[int], *, same_items: bool = True, resamples: int = 500) -> Resamples:
    return draw_resamples(
        dict.fromkeys(seeds, DOMAINS),
        {seed: "items" if same_items else f"items {seed}" for seed in seeds},
        resamples=resamples,
    )


def difference(ours: Mapping[int, Matrix], theirs: Mapping[int, Matrix], **options: bool) -> Difference:
    found = paired_difference(
        {seed: accuracy(one.tolist()) for seed, one in ours.items()},
        {seed: accuracy(one.tolist()) for seed, one in theirs.items()},
        drawn(sorted(theirs), **options),
    )
    assert found is not None
    return found


def answers(share: float, *, seed: int, name: str = "answers") -> Matrix:
    return (generator("test", name, seed).random(120) < share).astype(np.float64)


def test_identical_answers_differ_by_exactly_nothing() -> None:
    same = {seed: answers(0.6, seed=seed) for seed in (1, 2, 3)}
    found = difference(same, same)
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)
    assert not found.excludes_zero


def test_a_clear_difference_is_found_and_its_mirror_too() -> None:
    ours = {seed: answers(0.8, seed=seed) for seed in (1, 2, 3)}
    theirs = {seed: answers(0.4, seed=seed, name="others") for seed in (1, 2, 3)}
    found, mirrored = difference(ours, theirs), difference(theirs, ours)
    assert found.low > 0.2
    assert found.estimate == pytest.approx(np.mean([ours[seed].mean() - theirs[seed].mean() for seed in (1, 2, 3)]))
    assert (mirrored.estimate, mirrored.low, mirrored.high) == pytest.approx((-found.estimate, -found.high, -found.low))
    assert found.excludes_zero
    assert mirrored.excludes_zero


def test_pairing_sees_a_small_steady_difference_that_unpaired_answers_hide() -> None:
    hard = answers(0.5, seed=1)
    ours = hard.copy()
    ours[np.flatnonzero(hard == 0)[:12]] = 1.0
    found = difference({1: ours}, {1: hard})
    assert found.estimate == pytest.approx(0.1)
    # Unpaired, its standard error would be sqrt(2 * 0.25 / 120) = 0.065; paired it is sqrt(0.1 * 0.9 / 120) = 0.027.
    assert 0.03 < found.low < found.high < 0.18


def test_seeds_that_disagree_widen_the_interval_over_zero() -> None:
    base = np.zeros(120)
    ours = {1: np.concatenate([np.ones(40), np.zeros(80)]), 2: np.zeros(120), 3: np.zeros(120)}
    found = difference(ours, dict.fromkeys((1, 2, 3), base))
    assert found.estimate == pytest.approx(40 / 120 / 3)
    assert found.low <= 0 < found.high


def test_the_weights_are_drawn_within_domains_and_shared_by_equal_items() -> None:
    shared, apart = drawn((1, 2)), drawn((1, 2), same_items=False)
    assert shared.items[1] is shared.items[2]
    assert not np.array_equal(apart.items[1], apart.items[2])
    for domain in range(6):
        of_domain = shared.items[1][:, [place for place, one in enumerate(DOMAINS) if one == domain]]
        assert set(of_domain.sum(axis=1)) == {20.0}
    assert np.allclose(shared.seeds.sum(axis=1), 1)


def test_the_same_comparison_again_is_the_same_to_the_last_digit() -> None:
    ours = {seed: answers(0.7, seed=seed) for seed in (1, 2)}
    theirs = {seed: answers(0.5, seed=seed, name="others") for seed in (1, 2)}
    assert difference(ours, theirs) == difference(ours, theirs)


def test_seed_weights_have_the_variance_of_a_mean_of_three() -> None:
    weights = drawn((1, 2, 3), resamples=20000).seeds
    effects = np.array([1.0, 2.0, 6.0])
    # Sample variance 7 by 3 seeds; a plain bootstrap would give 14 / 9.
    assert (weights @ effects).var() == pytest.approx(7 / 3, rel=0.05)


def test_a_seed_that_one_of_the_two_lacks_leaves_nothing_to_say() -> None:
    assert paired_difference({1: accuracy([1.0])}, {}, draw_resamples({1: (0,)}, {1: "x"}, resamples=10)) is None
    with pytest.raises(ValueError, match="different items"):
        paired_difference(
            {1: accuracy([1.0])}, {1: accuracy([1.0, 0.0])}, draw_resamples({1: (0,)}, {1: "x"}, resamples=10)
        )


@pytest.mark.parametrize(("seeds", "seed_effect", "least"), [(1, 0.0, 0.88), (3, 0.05, 0.88), (5, 0.05, 0.88)])
def test_intervals_cover_the_truth_about_as_often_as_they_promise(seeds: int, seed_effect: float, least: float) -> None:
    """150 simulated comparisons with a true difference of 0.1; longer simulations: docs/adr/0026."""
    covered = 0
    for number in range(150):
        rng = generator("coverage", seeds, number)
        ours, theirs = {}, {}
        for seed in range(seeds):
            shift = rng.normal(0, seed_effect)
            luck = rng.random(120)
            theirs[seed] = (luck < 0.5).astype(np.float64)
            ours[seed] = ((luck + 0.3 * rng.random(120)) < 0.75 + shift).astype(np.float64)
        found = difference(ours, theirs)
        # P(u + 0.3 v < 0.75) = 0.75 - 0.15 = 0.6 for u, v uniform, so the truth is 0.1.
        covered += found.low <= 0.1 <= found.high
    assert covered / 150 >= least
