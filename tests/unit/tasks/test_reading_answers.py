"""How final answers are found in what students and teachers write, and what each task makes of them."""

from __future__ import annotations

import pytest

from baldistill.tasks.answers import NO_ANSWER, parse_annotation
from baldistill.tasks.kinds import TaskKind
from baldistill.tasks.registry import task_of

LABELS = ("billing", "U.S.", "log in", "refund, partial")
TOPICS = ("corn", "grain", "soy-oil", "wheat")


def read(kind: TaskKind, text: str, labels: tuple[str, ...] = ()) -> str:
    return task_of(kind).read(text, labels)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("It is money.\nAnswer: billing", "billing"),
        ("Answer: log in\nNo, wait.\nAnswer: billing", "billing"),  # the last line counts
        ("**Answer:** Billing.", "billing"),
        ("Answer**: `BILLING`", "billing"),
        ("final answer :\n  log   in ", "log in"),
        ("Answer: U.S.", "U.S."),
        ("Answer: u.s", "U.S."),
        ("Answer: refund, partial", "refund, partial"),
        ("Answer: billing or log in", NO_ANSWER),
        ("Answer: billing because of money", NO_ANSWER),
        ("Answer: shipping", NO_ANSWER),
        ("billing", NO_ANSWER),
        ("Answer:", NO_ANSWER),
        ("Answer: ...", NO_ANSWER),
        ("", NO_ANSWER),
    ],
)
def test_a_label_is_read_from_the_last_answer_line(text: str, label: str) -> None:
    assert read(TaskKind.CLASSIFICATION, text, LABELS) == label


def test_labels_that_differ_in_case_only_are_told_apart_where_they_are_spelled_exactly() -> None:
    assert [read(TaskKind.CLASSIFICATION, f"Answer: {text}", ("Us", "us")) for text in ("us", "Us", "US")] == [
        "us",
        "Us",
        "Us",
    ]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Answer: wheat; corn", "corn; wheat"),
        ("Answer: Wheat;corn; corn.", "corn; wheat"),
        ("Answer: [wheat, corn]", "corn; wheat"),
        ("Answer: grain", "grain"),
        ("Answer: wheat; barley", "barley; wheat"),  # the unknown part stays: a false alarm
        ("Answer: barley; rye", NO_ANSWER),
        ("Answer: ;;", NO_ANSWER),
        ("wheat", NO_ANSWER),
    ],
)
def test_labels_are_read_as_a_sorted_list_each_once(text: str, labels: str) -> None:
    assert read(TaskKind.MULTI_LABEL, text, TOPICS) == labels


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: B", "B"),
        ("Answer: (b)", "B"),
        ("Answer: B.", "B"),
        ("Answer: **B)** eat ice cream", "B"),
        ("Answer: (B) eat ice cream", "B"),
        ("Answer: option C", "C"),
        (r"Answer: $\boxed{C}$", "C"),
        ("Answer: A dog", NO_ANSWER),
        ("Answer: A or B", NO_ANSWER),
        ("Answer: A, B", NO_ANSWER),
        ("Answer: Z", NO_ANSWER),
        ("Answer: eat ice cream", NO_ANSWER),
        ("The answer is B", NO_ANSWER),
    ],
)
def test_a_letter_stands_alone_in_parentheses_or_before_its_option(text: str, letter: str) -> None:
    assert read(TaskKind.MULTIPLE_CHOICE, text, ("A", "B", "C")) == letter


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("So x = 3.\nAnswer: 3", "3"),
        (r"so we get $\boxed{\frac{1}{2}}$ and are done.", r"\frac{1}{2}"),
        (r"first \boxed{1}, then \boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"Answer: $\boxed{.5}$.", ".5"),
        ("Answer: .5", ".5"),
        ("Answer: **42**.", "42"),
        (r"Answer: \(x^2\)", "x^2"),
        (r"Answer: \boxed{\frac{1}{2}", r"\boxed{\frac{1}{2}"),  # a box that does not end is no box
        ("It is 3.", NO_ANSWER),
        ("Answer: $$", "$$"),
        ("", NO_ANSWER),
    ],
)
def test_a_result_is_read_from_the_answer_line_or_else_from_the_last_box(text: str, result: str) -> None:
    assert read(TaskKind.MATH, text) == result


def test_a_short_answer_is_its_line_without_marks_and_quotes() -> None:
    assert read(TaskKind.ABSTRACTIVE_QA, 'Answer: "The  Beatles".\nThey sold more.') == "The Beatles"
    assert read(TaskKind.ABSTRACTIVE_QA, "The Beatles") == NO_ANSWER
    assert read(TaskKind.ABSTRACTIVE_QA, 'Answer: "."') == NO_ANSWER


def test_long_lines_are_read_in_linear_time() -> None:
    spaces = " " * 200_000
    assert read(TaskKind.CLASSIFICATION, f"Answer:{spaces}x{spaces}y", LABELS) == NO_ANSWER
    assert read(TaskKind.MATH, "\\boxed{" * 2_000) == NO_ANSWER


def test_an_annotation_keeps_its_answer_as_it_is_written() -> None:
    parsed = parse_annotation("Half of one.\n**Answer:** .5")
    assert parsed is not None
    assert (parsed.rationale, task_of(TaskKind.MATH).canonical(parsed.answer, ())) == ("Half of one.", ".5")
