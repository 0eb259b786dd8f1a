"""SQuAD's word F1, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baldistill.tasks.answers import NO_ANSWER
from baldistill.tasks.comparison import best_word_f1
from baldistill.tasks.word_f1 import normalised, word_f1


@pytest.mark.parametrize(
    ("answer", "accepted", "f1"),
    [
        ("The Beatles", "beatles", 1.0),  # articles and case do not count
        ("the U.S.A.!", "USA", 1.0),  # nor does punctuation, which joins what stood around it
        ("  a   cat\tsat ", "cat sat", 1.0),
        ("19 June 2018", "June 2018", 2 * 2 / (3 + 2)),  # 2 shared of 3 and 2: P 2/3, R 1, F1 0.8
        ("to be or not to be", "to be", 2 * 2 / (6 + 2)),  # each word as often as it stands in both: to, be
        ("very very good", "very good very", 1.0),
        ("theatre", "atre", 0.0),  # "the" is an article as a word only
        ("cats", "dogs", 0.0),
        ("", "dogs", 0.0),
        ("The", "a", 1.0),  # no word is left of either
        ("the", "dogs", 0.0),
    ],
)
def test_word_f1_by_hand(answer: str, accepted: str, f1: float) -> None:
    assert word_f1(answer, accepted) == pytest.approx(f1)


def test_the_best_of_the_accepted_answers_counts() -> None:
    # "Seattle": 1 shared of 1 and 2 is 2/3; of 1 and 1 is 1.
    grade = best_word_f1("seattle", ["Seattle, Washington", "Seattle"])
    assert (grade.credit, grade.is_correct) == (1.0, True)
    partial = best_word_f1("seattle", ["Seattle, Washington", "Washington"])
    assert partial.credit == pytest.approx(2 / 3)
    assert not partial.is_correct


def test_no_answer_is_wrong_also_where_the_answer_is_the_word_none() -> None:
    assert normalised(NO_ANSWER) == "none"
    assert best_word_f1(NO_ANSWER, ["None"]).credit == 0.0
    assert best_word_f1("none", ["None"]).credit == 1.0


@given(st.text(), st.text())
def test_it_is_symmetric_between_0_and_1_and_1_for_itself(one: str, other: str) -> None:
    assert 0.0 <= word_f1(one, other) == word_f1(other, one) <= 1.0
    assert word_f1(one, one) == 1.0
