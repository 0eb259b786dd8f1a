"""Guesses at what comes next, and how many of them are worth a pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baldistill.student.drafting import (
    MOST_GUESSED,
    HitRate,
    TextLookup,
    leading_matches,
    tokens_worth_guessing,
)


@pytest.mark.parametrize(
    ("text", "guessed"),
    [
        # What followed 7, 8 before.
        ([7, 8, 1, 2, 3, 4, 9, 7, 8], [1, 2, 3, 4]),
        # The later of two places.
        ([7, 1, 1, 1, 1, 7, 2, 3, 4, 5, 7], [2, 3, 4, 5]),
        # The longer match, though 8 was followed by 5 later.
        ([6, 7, 8, 1, 2, 3, 4, 8, 5, 0, 6, 7, 8], [1, 2, 3, 4]),
        # A loop goes on.
        ([9, 1, 2, 1, 2], [1, 2, 1, 2]),
        ([4, 4], [4, 4, 4, 4]),
        # Nothing like it before.
        ([1, 2, 3], [3, 3, 3, 3]),
        ([1], [1, 1, 1, 1]),
    ],
)
def test_a_guess_is_what_followed_the_longest_match(text: list[int], guessed: list[int]) -> None:
    assert TextLookup(text).guess(4) == guessed


@given(st.lists(st.integers(0, 3), min_size=1), st.integers(0, MOST_GUESSED), st.data())
def test_a_text_that_grew_is_searched_like_one_that_was_given_whole(
    text: list[int], count: int, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(text)))
    grown = TextLookup(text[:cut])
    grown.extend(text[cut:])
    guess = grown.guess(count)
    assert guess == TextLookup(text).guess(count)
    assert len(guess) == count
    assert set(guess) <= set(text)


def test_the_more_guesses_are_right_and_the_fewer_rows_share_a_pass_the_more_are_made() -> None:
    assert tokens_worth_guessing(hit_rate=0.0, rows=1) == 0
    assert tokens_worth_guessing(hit_rate=0.05, rows=64) == 0
    assert tokens_worth_guessing(hit_rate=1.0, rows=64) == MOST_GUESSED
    by_rate = [tokens_worth_guessing(hit_rate=rate / 10, rows=64) for rate in range(11)]
    by_rows = [tokens_worth_guessing(hit_rate=0.7, rows=rows) for rows in (1, 4, 16, 64, 256)]
    assert by_rate == sorted(by_rate)
    assert by_rows == sorted(by_rows, reverse=True)
    assert by_rows[0] > by_rows[-1]


def test_text_without_repeats_stops_the_guessing_and_text_with_them_begins_it_again() -> None:
    hits = HitRate()
    assert tokens_worth_guessing(hit_rate=hits.share, rows=64) > 0
    for _ in range(60):
        hits.learn(right=0, rows=64)
    assert tokens_worth_guessing(hit_rate=hits.share, rows=64) == 0
    for _ in range(60):
        hits.learn(right=64, rows=64)
    assert tokens_worth_guessing(hit_rate=hits.share, rows=64) == MOST_GUESSED


@pytest.mark.parametrize(
    ("guesses", "tokens", "right"),
    [([], [5], 0), ([1, 2], [1, 2, 3], 2), ([1, 9, 3], [1, 2, 3, 4], 1), ([9], [1, 2], 0)],
)
def test_guesses_count_up_to_the_first_that_is_wrong(guesses: list[int], tokens: list[int], right: int) -> None:
    assert leading_matches(guesses, tokens) == right
