"""The two rows that every table is read against."""

from __future__ import annotations

import pytest

from baldistill.datasets.examples import Example
from baldistill.tasks.kinds import TaskKind
from services.trainer.evaluation.graded import majority_answer
from services.trainer.evaluation.reference_rows import (
    MAJORITY,
    TFIDF_LOGISTIC_REGRESSION,
    reference_reports,
    tfidf_logistic_regression,
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
