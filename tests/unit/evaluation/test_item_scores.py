"""Multiple choice, math and short answers: means within domains, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baldistill.datasets.examples import Example
from baldistill.tasks.answers import NO_ANSWER
from baldistill.tasks.comparison import RIGHT, TIMED_OUT, WRONG, Grade, best_word_f1, same_text
from baldistill.tasks.kinds import TaskKind
from services.trainer.evaluation.graded import GradedAnswer, graded
from services.trainer.evaluation.reports import EvaluationReport, Group, Metric
from services.trainer.evaluation.scoring import evaluation_report

POOL = {"big": 90, "rare": 3, "untested": 7}


def answered(*rows: tuple[str, str, str, Grade, int]) -> list[GradedAnswer]:
    """(domain, truth, prediction, grade, how often)."""
    repeated = [row[:4] for row in rows for _ in range(row[4])]
    return [
        GradedAnswer(example_id=str(number), domain=domain, truth=truth, prediction=prediction, grade=grade)
        for number, (domain, truth, prediction, grade) in enumerate(repeated)
    ]


def report(answers: list[GradedAnswer], kind: TaskKind, pool: dict[str, int] = POOL) -> EvaluationReport:
    return evaluation_report(answers, kind=kind, pool_sizes=pool, budget=30)


def test_multiple_choice_is_accuracy_and_macro_ignores_domains_without_test_items() -> None:
    scored = report(
        answered(
            ("big", "A", "A", RIGHT, 15),
            ("big", "B", "C", WRONG, 15),
            ("rare", "B", "B", RIGHT, 9),
            ("rare", "C", NO_ANSWER, WRONG, 1),
        ),
        TaskKind.MULTIPLE_CHOICE,
    )
    assert scored.metric is Metric.ACCURACY
    assert (scored.domains["big"].score, scored.domains["rare"].score) == (0.5, 0.9)
    assert scored.macro == pytest.approx((0.5 + 0.9) / 2)
    assert scored.micro == pytest.approx(24 / 40)
    assert (scored.unparsable, scored.domains["untested"].score) == (1, None)
    # B / l = 10: rare and untested are tail; ten items are too few for a mean.
    assert scored.groups[Group.TAIL].domains == 2
    assert scored.groups[Group.TAIL].macro is None


def test_a_letter_is_at_chance_near_the_domains_most_frequent_one() -> None:
    # 20 of 40 are A: 0.5, two standard errors are 2 sqrt(0.25 / 40) = 0.158: chance reaches to 0.658.
    def of(right: int) -> bool | None:
        rows = answered(
            ("big", "A", "A", RIGHT, 20), ("big", "B", "B", RIGHT, right - 20), ("big", "B", "A", WRONG, 40 - right)
        )
        return report(rows, TaskKind.MULTIPLE_CHOICE).domains["big"].at_chance

    assert (of(26), of(27)) == (True, False)  # 0.65 and 0.675


def test_a_timed_out_comparison_is_wrong_and_counted() -> None:
    scored = report(answered(("big", "1", "1", RIGHT, 30), ("big", "1", "9^9", TIMED_OUT, 10)), TaskKind.MATH)
    assert (scored.micro, scored.timed_out, scored.unparsable) == (0.75, 10, 0)


def test_the_same_result_in_another_spelling_is_the_domains_majority_answer_too() -> None:
    rows = answered(
        ("big", r"\frac{1}{2}", "x", WRONG, 20),
        ("big", r"\dfrac{1}{2}", r"\frac12", RIGHT, 19),
        ("big", "7", "x", WRONG, 1),
    )
    assert report(rows, TaskKind.MATH).domains["big"].at_chance is True


def test_short_answers_have_word_f1_best_over_aliases() -> None:
    items = [
        Example(example_id=str(number), domain="big" if number < 20 else "rare", input="?", answer="The Beatles")
        for number in range(40)
    ]
    # 20 x 1 (an alias), 10 x 2/3 (one word of two, one asked), 10 x 0.
    predictions = ["Fab Four"] * 20 + ["Beatles band"] * 10 + [NO_ANSWER] * 10
    aliases = {str(number): ["the fab four"] for number in range(40)}
    scored = report(graded(items, predictions, compare=best_word_f1, aliases=aliases), TaskKind.ABSTRACTIVE_QA)
    assert scored.metric is Metric.WORD_F1
    assert (scored.domains["big"].score, scored.domains["big"].correct) == (1.0, 20)
    assert scored.domains["rare"].score == pytest.approx(10 * (2 / 3) / 20)
    assert scored.domains["rare"].correct == 0
    assert scored.micro == pytest.approx((20 + 20 / 3) / 40)
    assert scored.macro == pytest.approx((1 + 1 / 3) / 2)


def test_empty_predictions_are_wrong_everywhere() -> None:
    for kind in TaskKind:
        rows = answered(("big", "big", NO_ANSWER, WRONG, 30))
        scored = report(rows, kind)
        assert (scored.micro, scored.macro, scored.unparsable) == (0.0, 0.0, 30), kind


def test_one_domain_alone_is_its_own_mean() -> None:
    scored = report(
        answered(("only", "A", "A", RIGHT, 21), ("only", "B", "A", WRONG, 9)), TaskKind.MULTIPLE_CHOICE, {"only": 60}
    )
    assert scored.macro == scored.micro == scored.domains["only"].score == pytest.approx(0.7)
    assert scored.groups[Group.HEAD].macro == pytest.approx(0.7)
    assert (scored.groups[Group.TAIL].domains, scored.groups[Group.TAIL].macro) == (0, None)


ITEMS = st.lists(
    st.tuples(st.sampled_from(["big", "rare"]), st.sampled_from("AB"), st.sampled_from(["A", "B", NO_ANSWER])),
    min_size=30,
    max_size=60,
)


@settings(deadline=None, max_examples=30)
@given(ITEMS, st.randoms())
def test_scores_lie_between_0_and_1_and_do_not_depend_on_the_order(
    rows: list[tuple[str, str, str]], random: object
) -> None:
    answers = answered(*((domain, truth, guess, same_text(guess, [truth]), 1) for domain, truth, guess in rows))
    scored = report(answers, TaskKind.MULTIPLE_CHOICE)
    shuffled = answers[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert report(shuffled, TaskKind.MULTIPLE_CHOICE).to_json() == scored.to_json()
    for value in (scored.macro, scored.micro, *(one.score for one in scored.domains.values())):
        assert value is None or 0.0 <= value <= 1.0
