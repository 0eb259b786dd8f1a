"""Documents with sets of labels, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baldistill.tasks.answers import NO_ANSWER
from baldistill.tasks.comparison import RIGHT, WRONG, same_set
from baldistill.tasks.kinds import TaskKind
from services.trainer.evaluation.graded import GradedAnswer
from services.trainer.evaluation.reports import EvaluationReport, Metric
from services.trainer.evaluation.scoring import evaluation_report

# (domain, truth, prediction, how often); a document's domain is its rarest label.
Rows = list[tuple[str, str, str, int]]
DOCUMENTS: Rows = [
    ("wheat", "grain; wheat", "grain; wheat", 10),
    ("grain", "grain", "grain; wheat", 10),
    ("earn", "earn", "earn", 8),
    ("earn", "earn", NO_ANSWER, 2),
]


def report(rows: Rows, kind: TaskKind = TaskKind.MULTI_LABEL, **pool: int) -> EvaluationReport:
    repeated = [row[:3] for row in rows for _ in range(row[3])]
    answers = [
        GradedAnswer(
            example_id=str(number),
            domain=domain,
            truth=truth,
            prediction=prediction,
            grade=same_set(prediction, [truth])
            if kind is TaskKind.MULTI_LABEL
            else RIGHT
            if prediction == truth
            else WRONG,
        )
        for number, (domain, truth, prediction) in enumerate(repeated)
    ]
    return evaluation_report(answers, kind=kind, pool_sizes=pool or {"earn": 50, "grain": 20, "wheat": 5}, budget=30)


def test_f1_of_a_label_is_over_all_documents() -> None:
    scored = report(DOCUMENTS)
    assert scored.metric is Metric.SET
    # grain: 20 documents carry it, 20 predictions, 20 right: 40 / 40.
    assert scored.domains["grain"].score == 1.0
    # wheat: 10 carry it, 20 predictions, 10 right: 20 / 30.
    assert scored.domains["wheat"].score == pytest.approx(20 / 30)
    # earn: 10 carry it, 8 predictions, 8 right: 16 / 18.
    assert scored.domains["earn"].score == pytest.approx(16 / 18)
    assert scored.macro == pytest.approx((1 + 20 / 30 + 16 / 18) / 3)


def test_micro_is_the_f1_of_all_labels_and_no_answer_is_a_false_alarm_of_no_label() -> None:
    scored = report(DOCUMENTS)
    # Right: 20 + 10 + 8 = 38. Carried: 20 + 10 + 10 = 40. Predicted: 20 + 20 + 8, and 2 without a label = 50.
    assert scored.micro == pytest.approx(2 * 38 / (40 + 50))
    assert (scored.items, scored.unparsable) == (30, 2)


def test_a_label_that_does_not_exist_lowers_micro_and_no_labels_own_f1() -> None:
    scored = report([("a", "a", "a; nonsense; rubbish", 30)], a=9)
    assert scored.domains["a"].score == 1.0
    assert set(scored.domains) == {"a"}
    assert scored.micro == pytest.approx(2 * 30 / (30 + 90))
    assert scored.unparsable == 0


def test_a_label_that_is_no_documents_domain_has_a_row_of_its_own() -> None:
    scored = report([("rare", "common; rare", "common", 30)], rare=3)
    assert (scored.domains["common"].score, scored.domains["common"].items, scored.domains["common"].pool) == (
        1.0,
        30,
        0,
    )
    assert scored.domains["rare"].score == 0.0
    assert scored.macro == pytest.approx(0.5)


def test_a_label_that_no_test_document_carries_has_no_score_and_is_not_in_the_mean() -> None:
    scored = report(DOCUMENTS, earn=50, grain=20, wheat=5, tin=2)
    assert scored.domains["tin"].score is None
    assert scored.macro == report(DOCUMENTS).macro


def test_where_domains_are_no_labels_each_has_the_f1_of_its_own_documents() -> None:
    scored = report([("north", "a; b", "a", 20), ("south", "a", "a; b", 5), ("south", "b", "b", 15)], north=9, south=9)
    # north: 20 right, 40 carried, 20 predicted: 40 / 60. south: 20 right, 20 carried, 25 predicted: 40 / 45.
    assert scored.domains["north"].score == pytest.approx(40 / 60)
    assert scored.domains["south"].score == pytest.approx(40 / 45)
    assert scored.macro == pytest.approx((40 / 60 + 40 / 45) / 2)
    assert scored.micro == pytest.approx(80 / 105)
    assert (scored.domains["north"].correct, scored.domains["south"].correct) == (0, 15)


def test_the_order_of_labels_does_not_count() -> None:
    assert same_set("a; b", ["b; a"]) == RIGHT
    assert same_set("a", ["b; a"]).credit == pytest.approx(2 / 3)


LABELS = st.sampled_from(["a", "b", "c"])
PREDICTIONS = st.sampled_from(["a", "b", "c", NO_ANSWER])
SINGLE = st.lists(st.tuples(LABELS, PREDICTIONS), min_size=30, max_size=60)
SETS = st.sets(LABELS, min_size=1).map(lambda labels: "; ".join(sorted(labels)))


@settings(deadline=None, max_examples=30)
@given(SINGLE)
def test_with_one_label_a_document_micro_is_the_accuracy_and_domains_score_as_single_labels(
    rows: list[tuple[str, str]],
) -> None:
    documents: Rows = [(truth, truth, prediction, 1) for truth, prediction in rows]
    of_sets = report(documents, a=1, b=1, c=1)
    single = report(documents, kind=TaskKind.CLASSIFICATION, a=1, b=1, c=1)
    assert of_sets.micro == pytest.approx(sum(truth == prediction for truth, prediction in rows) / len(rows))
    assert of_sets.micro == pytest.approx(single.micro)
    assert of_sets.macro == pytest.approx(single.macro)
    assert {name: one.at_chance for name, one in of_sets.domains.items()} == {
        name: one.at_chance for name, one in single.domains.items()
    }


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(SETS, st.one_of(SETS, st.just(NO_ANSWER))), min_size=30, max_size=50), st.randoms())
def test_scores_lie_between_0_and_1_and_do_not_depend_on_the_order(rows: list[tuple[str, str]], random: object) -> None:
    documents: Rows = [(truth.split("; ")[0], truth, prediction, 1) for truth, prediction in rows]
    scored = report(documents, a=1, b=1, c=1)
    shuffled = documents[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = report(shuffled, a=1, b=1, c=1)
    assert scored.to_json() == again.to_json()
    for value in (scored.macro, scored.micro, *(one.score for one in scored.domains.values())):
        assert value is None or 0.0 <= value <= 1.0
