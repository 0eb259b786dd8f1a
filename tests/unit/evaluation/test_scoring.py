"""Scores by hand: what is right, what is wrong, and what no mean may hide."""

from __future__ import annotations

import json

import pytest

from baldistill.tasks.answers import NO_ANSWER
from baldistill.tasks.comparison import RIGHT, WRONG
from baldistill.tasks.kinds import TaskKind
from services.trainer.evaluation.graded import GradedAnswer
from services.trainer.evaluation.reports import EvaluationReport, Group, Metric
from services.trainer.evaluation.scoring import evaluation_report


def answers(*rows: tuple[str, str, str, int]) -> list[GradedAnswer]:
    """(domain, truth, prediction, how often)."""
    repeated = [row[:3] for row in rows for _ in range(row[3])]
    return [
        GradedAnswer(
            example_id=str(number),
            domain=domain,
            truth=truth,
            prediction=prediction,
            grade=RIGHT if prediction == truth else WRONG,
        )
        for number, (domain, truth, prediction) in enumerate(repeated)
    ]


def labelled(*rows: tuple[str, str, int]) -> list[GradedAnswer]:
    return answers(*((label, label, prediction, count) for label, prediction, count in rows))


POOL = {"a": 80, "b": 15, "c": 4}
LABELS = ("a", "b", "c")
# 40 items. a: 28 right, 2 called b. b: 5 right, 1 called a, 2 without an answer. c: 1 right, 1 called a.
MIXED = labelled(
    ("a", "a", 28), ("a", "b", 2), ("b", "b", 5), ("b", "a", 1), ("b", NO_ANSWER, 2), ("c", "c", 1), ("c", "a", 1)
)


def report(graded: list[GradedAnswer], **changes: object) -> EvaluationReport:
    arguments: dict[str, object] = {"kind": TaskKind.CLASSIFICATION, "pool_sizes": POOL, "budget": 60, **changes}
    return evaluation_report(graded, **arguments)  # type: ignore[arg-type]


def test_f1_is_one_vs_rest_over_the_whole_test_set() -> None:
    domains = report(MIXED).domains
    assert domains["a"].score == pytest.approx(2 * 28 / (2 * 28 + 2 + 2))  # 2 missed, 2 false alarms from b and c
    assert domains["b"].score == pytest.approx(2 * 5 / (2 * 5 + 2 + 3))  # 2 false alarms from a, 3 missed
    assert domains["c"].score == pytest.approx(2 * 1 / (2 * 1 + 0 + 1))


def test_macro_is_the_mean_over_domains_and_micro_over_items() -> None:
    mixed = report(MIXED)
    assert mixed.metric is Metric.F1
    assert mixed.macro == pytest.approx((56 / 60 + 10 / 15 + 2 / 3) / 3)
    assert mixed.micro == pytest.approx(34 / 40)


@pytest.mark.parametrize("nonsense", [NO_ANSWER, "d", ""])
def test_an_answer_outside_the_labels_is_wrong_and_no_label_of_its_own(nonsense: str) -> None:
    graded = report(labelled(("a", "a", 15), ("b", nonsense, 15)), pool_sizes={"a": 80, "b": 15})
    assert set(graded.domains) == {"a", "b"}
    assert graded.unparsable == (15 if nonsense == NO_ANSWER else 0)
    assert graded.macro == pytest.approx((1 + 0) / 2)
    assert graded.micro == pytest.approx(0.5)


def test_a_domain_without_test_items_has_no_score_and_is_not_in_the_mean() -> None:
    graded = report(labelled(("a", "a", 20), ("b", "b", 19), ("b", "c", 1)))
    assert graded.domains["c"].score is None
    assert graded.domains["c"].at_chance is None
    assert graded.macro == pytest.approx((1 + 38 / 39) / 2)


def test_a_test_domain_that_the_pool_lacks_is_scored_and_is_tail() -> None:
    graded = report(labelled(("a", "a", 20), ("z", "z", 10)))
    assert (graded.domains["z"].score, graded.domains["z"].pool, graded.domains["z"].group) == (1.0, 0, Group.TAIL)


def test_where_the_domain_is_not_the_label_the_score_is_accuracy_within_the_domain() -> None:
    graded = report(
        answers(("a", "yes", "yes", 12), ("a", "no", "yes", 8), ("b", "yes", "no", 5), ("b", "no", "no", 5)),
    )
    assert graded.metric is Metric.ACCURACY
    assert (graded.domains["a"].score, graded.domains["b"].score) == (0.6, 0.5)
    assert graded.macro == pytest.approx(0.55)
    assert graded.micro == pytest.approx(17 / 30)


def test_tail_is_what_has_less_than_an_equal_share_of_the_budget() -> None:
    groups = {name: score.group for name, score in report(MIXED, budget=45).domains.items()}  # B / l = 15
    assert groups == {"a": Group.HEAD, "b": Group.HEAD, "c": Group.TAIL}
    assert report(MIXED, budget=46).domains["b"].group is Group.TAIL


def test_groups_have_counts_and_no_mean_over_fewer_than_30_items() -> None:
    groups = report(MIXED).groups  # B / l = 20: b and c are tail, 10 items
    assert (groups[Group.TAIL].domains, groups[Group.TAIL].items) == (2, 10)
    assert groups[Group.TAIL].macro is None
    assert groups[Group.TAIL].micro is None
    assert groups[Group.HEAD].items == 30
    assert groups[Group.HEAD].macro == pytest.approx(56 / 60)
    assert groups[Group.HEAD].micro == pytest.approx(28 / 30)


def test_the_whole_has_no_mean_over_fewer_than_30_items_either() -> None:
    few = report(labelled(("a", "a", 29)))
    assert (few.macro, few.micro, few.domains["a"].score) == (None, None, 1.0)
    assert report([]).macro is None


def test_always_answering_the_majority_is_at_chance_in_every_domain() -> None:
    graded = report(labelled(("a", "a", 60), ("b", "a", 30), ("c", "a", 10)))
    assert all(score.at_chance for score in graded.domains.values())


def test_one_vs_rest_is_above_chance_beyond_two_standard_errors() -> None:
    # b is 20 of 100: "not b" is right in 0.80, two standard errors are 2 sqrt(0.8 x 0.2 / 100) = 0.08.
    at_the_edge = report(labelled(("a", "a", 80), ("b", "b", 8), ("b", "a", 12)))  # 12 wrong: 0.88
    above = report(labelled(("a", "a", 80), ("b", "b", 9), ("b", "a", 11)))  # 11 wrong: 0.89
    assert at_the_edge.domains["b"].at_chance is True
    assert above.domains["b"].at_chance is False


def test_accuracy_within_a_domain_is_at_chance_near_its_majority_answer() -> None:
    # 16 of 25 are yes: 0.64, two standard errors are 2 x 0.096 = 0.192: chance reaches to 0.832.
    near = report(answers(("a", "yes", "yes", 16), ("a", "no", "no", 4), ("a", "no", "yes", 5)))
    above = report(answers(("a", "yes", "yes", 16), ("a", "no", "no", 5), ("a", "no", "yes", 4)))
    assert near.domains["a"].at_chance is True
    assert above.domains["a"].at_chance is False


def test_answer_nll_is_a_mean_per_domain_and_then_over_domains() -> None:
    graded = labelled(("a", "a", 2), ("b", "b", 28))
    nll = {"0": 1.0, "1": 2.0, **{str(number): 0.5 for number in range(2, 30)}}
    scored = report(graded, answer_nll=nll)
    assert [scored.domains[name].answer_nll for name in LABELS] == [1.5, 0.5, None]
    assert scored.macro_answer_nll == pytest.approx(1.0)
    assert report(graded).macro_answer_nll is None
    assert report(graded[1:], answer_nll=nll).macro_answer_nll is None  # 29 items: no mean


def test_a_report_survives_json() -> None:
    scored = report(MIXED, answer_nll={"0": 1.0})
    assert EvaluationReport.from_json(json.loads(json.dumps(scored.to_json()))) == scored


def test_a_report_of_version_1_is_still_read() -> None:
    stored = json.loads(json.dumps(report(MIXED).to_json()))
    for added in ("schema_version", "timed_out", "ceiling"):
        del stored[added]
    assert EvaluationReport.from_json(stored) == report(MIXED)
