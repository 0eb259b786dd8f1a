"""Which synthesised texts say what is there already."""

from __future__ import annotations

import random

import pytest

from services.teacher_gateway.near_duplicates import NearDuplicates, jaccard, shingles_of

WORDS = [
    "invoice",
    "charge",
    "refund",
    "card",
    "price",
    "login",
    "password",
    "reset",
    "mail",
    "account",
    "delay",
    "parcel",
    "courier",
    "broken",
    "screen",
]


def sentences(count: int, *, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=25)) + f" number {rng.random()}" for _ in range(count)]


def test_case_spaces_and_forms_of_a_letter_make_no_other_text() -> None:
    assert shingles_of("  My INVOICE\n is wrong ", size=5) == shingles_of("my invoice is wrong", size=5)
    assert shingles_of("ﬁne", size=3) == shingles_of("fine", size=3)
    assert shingles_of("hi", size=5) == {b"hi"}
    assert shingles_of("", size=5) == {b""}


def test_similarity_is_the_share_of_common_shingles() -> None:
    # abcd, bcde | bcde, cdef: one of three.
    assert jaccard(shingles_of("abcde", size=4), shingles_of("bcdef", size=4)) == pytest.approx(1 / 3)


def test_a_text_with_a_word_changed_is_found_among_many_others() -> None:
    judged = sentences(40, seed=1)
    copied = {3: judged[3].upper(), 17: judged[17].replace("number", "No"), 39: judged[39]}
    judge = NearDuplicates(judged, threshold=0.8, shingle=5)
    assert judge.of([*sentences(300, seed=2), *copied.values()]) == {3, 17, 39}
    assert judge.of(sentences(300, seed=2)) == set()


@pytest.mark.parametrize("seed", range(5))
def test_the_index_finds_nearly_all_that_comparing_every_pair_finds_and_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    judged = sentences(60, seed=seed)
    others = [" ".join(word for word in text.split() if rng.random() > 0.05) for text in judged]
    judge = NearDuplicates(judged, threshold=0.6, shingle=5)
    pairs = {
        place
        for place, text in enumerate(judged)
        if any(jaccard(shingles_of(text, size=5), shingles_of(other, size=5)) >= 0.6 for other in others)
    }
    found = judge.of(others)
    assert found <= pairs
    assert len(found) >= 0.95 * len(pairs) > 10


def test_of_texts_that_are_alike_the_first_is_kept() -> None:
    one, other = sentences(2, seed=4)
    judge = NearDuplicates([one, other, one.upper(), f"{other} "], threshold=0.8, shingle=5)
    assert judge.of_each_other([0, 1, 2, 3]) == {2, 3}
    assert judge.of_each_other([2, 3]) == set()
