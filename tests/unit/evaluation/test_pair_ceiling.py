"""What one prediction an input can reach where inputs have several answers, by hand and against trying everything."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baldistill.datasets.examples import Example
from baldistill.tasks.comparison import RIGHT, WRONG
from baldistill.tasks.kinds import TaskKind
from services.trainer.evaluation.graded import GradedAnswer
from services.trainer.evaluation.pair_ceiling import pair_ceiling
from services.trainer.evaluation.reports import EvaluationReport, Metric
from services.trainer.evaluation.scoring import evaluation_report


def pairs(*documents: tuple[str, str]) -> list[Example]:
    """(text, its answers, a letter each): one item a pair."""
    return [
        Example(example_id=f"{text}-{answer}", domain=answer, input=text, answer=answer)
        for text, answers in documents
        for answer in answers
    ]


def report(items: list[Example], predictions: dict[str, str]) -> EvaluationReport:
    graded = [
        GradedAnswer(
            example_id=item.example_id,
            domain=item.domain,
            truth=item.answer,
            prediction=predictions[item.input],
            grade=RIGHT if predictions[item.input] == item.answer else WRONG,
        )
        for item in items
    ]
    sizes = Counter(item.domain for item in items)
    return evaluation_report(
        graded, kind=TaskKind.CLASSIFICATION, pool_sizes=sizes, budget=1, ceiling=pair_ceiling(items)
    )


def test_by_hand() -> None:
    ceiling = pair_ceiling(pairs(("one", "ab"), ("two", "a")))
    assert ceiling is not None
    # Three pairs, two inputs: two can be right.
    assert ceiling.micro == pytest.approx(2 / 3)
    # a at its best: both inputs are called a; 2 right, 1 false alarm (one-b), 0 missed: 4/5. b: 1 right, 1 false alarm: 2/3.
    assert ceiling.macro_at_most == pytest.approx((4 / 5 + 2 / 3) / 2)
    # Input one is called b: a has 1 right, 1 missed: 2/3; b 2/3. Called a: 4/5 and 0.
    assert ceiling.macro_reached == pytest.approx(2 / 3)


def test_where_every_input_has_one_answer_there_is_no_ceiling_and_the_metric_is_plain_f1() -> None:
    items = pairs(*((str(number), "a") for number in range(30)))
    assert pair_ceiling(items) is None
    assert report(items, {item.input: "a" for item in items}).metric is Metric.F1


def test_the_report_names_the_metric_pair_and_reaches_its_ceiling() -> None:
    items = pairs(
        *((f"double {number}", "ab") for number in range(20)), *((f"single {number}", "a") for number in range(20))
    )
    best = report(items, {item.input: "b" if item.input.startswith("double") else "a" for item in items})
    assert best.metric is Metric.PAIR
    assert best.ceiling is not None
    assert best.micro == pytest.approx(best.ceiling.micro) == pytest.approx(40 / 60)
    # a: 20 right, 20 missed, no false alarm: 40/60. b: 20 right, 20 false alarms (the pairs with a), none missed: 40/60.
    assert best.macro == pytest.approx(best.ceiling.macro_reached) == pytest.approx(40 / 60)
    assert EvaluationReport.from_json(best.to_json()) == best


@settings(deadline=None, max_examples=40)  # up to 81 reports each
@given(st.lists(st.sets(st.sampled_from("abc"), min_size=1), min_size=1, max_size=4))
def test_no_prediction_at_all_beats_the_ceiling_and_the_search_reaches_what_it_says(answers: list[set[str]]) -> None:
    documents = [(str(number), "".join(sorted(one))) for number, one in enumerate(answers)]
    items = pairs(*documents)
    ceiling = pair_ceiling(items)
    best_macro = best_micro = 0.0
    for choice in product(*(one for _, one in documents)):
        scored = report(items, {text: label for (text, _), label in zip(documents, choice, strict=True)})
        scores = [one.score for one in scored.domains.values() if one.score is not None]
        best_macro = max(best_macro, sum(scores) / len(scores))
        best_micro = max(best_micro, sum(one.correct for one in scored.domains.values()) / len(items))
    if ceiling is None:
        assert best_macro == best_micro == 1.0
        return
    assert best_micro == pytest.approx(ceiling.micro)
    assert ceiling.macro_reached <= best_macro + 1e-9
    assert best_macro <= ceiling.macro_at_most + 1e-9
