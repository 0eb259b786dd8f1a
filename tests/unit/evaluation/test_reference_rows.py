"""The two rows that every table is read against."""

from __future__ import annotations

import pytest

from baldistill.datasets.examples import Example
from baldistill.tasks.kinds import TaskKind
from baldistill.tasks.label_answers import joined_labels, labels_in
from services.trainer.evaluation.graded import majority_answer
from services.trainer.evaluation.reference_rows import (
    MAJORITY,
    TFIDF_LOGISTIC_REGRESSION,
    reference_reports,
    tfidf_logistic_regression,
    tfidf_one_vs_rest,
)

INPUTS = ["the invoice is wrong", "refund my invoice", "cannot sign in", "password sign in fails", "invoice twice"]
ANSWERS = ["billing", "billing", "login", "login", "billing"]


def test_both_rows_learn_from_the_training_rows_and_answer_the_test_items() -> None:
    items = [
        Example(example_id=f"{label}-{number}", domain=label, input=text, answer=label)
        for label, text in (("billing", "an invoice came"), ("login", "sign in is broken"))
        for number in range(20)
    ]
    reports = reference_reports(
        inputs=INPUTS,
        answers=ANSWERS,
        items=items,
        kind=TaskKind.CLASSIFICATION,
        pool_sizes={"billing": 9, "login": 9},
        budget=5,
    )
    assert reports[MAJORITY].micro == pytest.approx(0.5)
    assert reports[MAJORITY].macro == pytest.approx((2 / 3 + 0) / 2)
    assert reports[TFIDF_LOGISTIC_REGRESSION].macro == 1.0


def test_the_majority_answer_of_a_tie_is_the_first_by_name() -> None:
    assert majority_answer(["b", "a", "b", "a", "c"]) == "a"
    with pytest.raises(ValueError, match="no answers"):
        majority_answer([])


@pytest.mark.parametrize(("inputs", "answers"), [(["a b", "c d"], ["x", "x"]), (["?", "!"], ["x", "y"])])
def test_where_there_is_nothing_to_learn_the_majority_answers(inputs: list[str], answers: list[str]) -> None:
    assert tfidf_logistic_regression(inputs=inputs, answers=answers, questions=["a", "?"]) == ["x", "x"]


def test_sets_of_labels_have_one_regression_a_label_and_at_least_one_label() -> None:
    inputs = ["wheat crop", "wheat and corn crop", "corn crop", "oil well", "oil price"]
    answers = ["grain; wheat", "corn; grain; wheat", "corn; grain", "crude", "crude"]
    told = tfidf_one_vs_rest(inputs=inputs, answers=answers, questions=["wheat crop", "corn crop", "oil", "?"])
    assert told[:3] == ["grain; wheat", "corn; grain", "crude"]
    assert labels_in(told[3]) <= {"corn", "crude", "grain", "wheat"}
    assert told[3]


@pytest.mark.parametrize(("inputs", "answers"), [(["a b", "c d"], ["x", "x"]), (["?", "!"], ["y; x", "y; x"])])
def test_where_there_is_nothing_to_learn_the_majority_set_answers(inputs: list[str], answers: list[str]) -> None:
    majority = joined_labels(labels_in(answers[0]))
    assert tfidf_one_vs_rest(inputs=inputs, answers=answers, questions=["a", "?"]) == [majority] * 2


def test_a_label_that_all_rows_carry_is_always_said_yes_to() -> None:
    told = tfidf_one_vs_rest(inputs=["one", "two"], answers=["all; x", "all; y"], questions=["one", "two"])
    assert told == ["all; x", "all; y"]


@pytest.mark.parametrize("kind", [TaskKind.MULTIPLE_CHOICE, TaskKind.MATH, TaskKind.ABSTRACTIVE_QA])
def test_letters_results_and_short_answers_have_the_majority_answer_only(kind: TaskKind) -> None:
    items = [
        Example(example_id=str(number), domain="d", input="?", answer="A" if number < 20 else "B")
        for number in range(40)
    ]
    reports = reference_reports(
        kind=kind, inputs=["a"] * 3, answers=["B", "B", "A"], items=items, pool_sizes={"d": 3}, budget=3
    )
    assert set(reports) == {MAJORITY}
    # Of 20 items the answer is B; as words, A is an article and nothing is left of it.
    assert reports[MAJORITY].micro == pytest.approx(0.5)
