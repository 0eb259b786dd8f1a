"""Every task has all its parts, and they fit together."""

from __future__ import annotations

import pytest

from baldistill.datasets.examples import DomainCounts, Example
from baldistill.specs.runspec import ProtocolTeacherSpec
from baldistill.tasks.answers import NO_ANSWER, parse_annotation, parse_synthesis
from baldistill.tasks.bounds import FREE, call_bound, worst_annotation_bound, worst_synthesis_bound
from baldistill.tasks.comparison import Grade, spelled_alike
from baldistill.tasks.kinds import TaskKind
from baldistill.tasks.prompts import ChatMessage, Demonstration, annotation_messages, synthesis_messages
from baldistill.tasks.protocol_rules import answer_by_rules
from baldistill.tasks.registry import task_of
from baldistill.tasks.templates import render_template
from baldistill.testing.teacher_runs import frozen_run

CHOICE = "Question: What is cold?\nA. fire\nB. ice cream\nC. the sun"
# kind: question, true answer, labels, another answer that is wrong
TASKS = {
    TaskKind.CLASSIFICATION: ("my invoice is wrong", "billing", ("billing", "login")),
    TaskKind.MULTI_LABEL: ("wheat and corn were shipped", "corn; wheat", ("corn", "grain", "wheat")),
    TaskKind.MULTIPLE_CHOICE: (CHOICE, "B", ("A", "B", "C")),
    TaskKind.MATH: ("What is half of one?", r"\frac{1}{2}", ()),
    TaskKind.ABSTRACTIVE_QA: ("Question: who sold the most records", "The Beatles", ()),
}
KINDS = pytest.mark.parametrize("kind", list(TaskKind), ids=lambda kind: kind.value)


def ask(messages: tuple[ChatMessage, ...], **behaviour: float) -> str:
    answer = answer_by_rules(
        messages, seed=1, max_completion_tokens=256, request_id="k/1", behaviour=ProtocolTeacherSpec(**behaviour)
    )
    return answer.text


def grade(kind: TaskKind, answer: str, truth: str) -> Grade:
    """Compare as the task does, but for math by spelling: its worker process has tests of its own."""
    if kind is TaskKind.MATH:
        return spelled_alike(answer, [truth])
    with task_of(kind).open_comparison(1.0) as compare:
        return compare(answer, [truth])


@KINDS
def test_the_protocol_teacher_annotates_every_task_and_errs_to_order(kind: TaskKind) -> None:
    question, answer, labels = TASKS[kind]
    task = task_of(kind)
    run = frozen_run(task={"kind": kind.value}, labels=labels).model_copy(update={"templates": task.templates})
    messages = annotation_messages(run, Example(example_id="a", domain="d", input=question, answer=answer))
    assert question in messages[1].content
    right, wrong = parse_annotation(ask(messages)), parse_annotation(ask(messages, wrong_label_share=1.0))
    assert right is not None
    assert wrong is not None
    assert grade(kind, task.canonical(right.answer, labels), answer).is_correct
    assert not grade(kind, task.canonical(wrong.answer, labels), answer).is_correct


@KINDS
def test_the_protocol_teacher_invents_well_formed_examples_of_every_task(kind: TaskKind) -> None:
    question, answer, labels = TASKS[kind]
    task = task_of(kind)
    run = frozen_run(task={"kind": kind.value}, labels=labels).model_copy(update={"templates": task.templates})
    shown = [Demonstration(input=f"{question} {number}", answer=answer) for number in range(3)]
    parsed = parse_synthesis(ask(synthesis_messages(run, "d", shown)))
    assert parsed is not None
    assert parsed.input is not None
    assert parsed.input not in {one.input for one in shown}
    canonical = task.canonical(parsed.answer, labels)
    assert task.fits(canonical, required=task.required_of({answer}), question=parsed.input)


@KINDS
def test_a_plans_bound_covers_every_tasks_requests(kind: TaskKind) -> None:
    question, answer, labels = TASKS[kind]
    run = frozen_run(task={"kind": kind.value}, labels=labels)
    run = run.model_copy(update={"templates": task_of(kind).templates})
    tokens = run.spec.teacher.max_completion_tokens
    counts = DomainCounts(
        pool=1, test=0, longest_input_bytes=len(question.encode()), longest_answer_bytes=len(answer.encode())
    )
    asked = annotation_messages(run, Example(example_id="a", domain="d", input=question, answer=answer))
    assert call_bound(asked, max_completion_tokens=tokens, price=FREE) == worst_annotation_bound(run, counts)
    shown = Demonstration(input=question, answer=answer, rationale="r" * 40)
    asked = synthesis_messages(run, "d", [shown] * 3)
    synthesis = call_bound(asked, max_completion_tokens=tokens, price=FREE)
    assert synthesis.tokens <= worst_synthesis_bound(run, "d", counts).tokens


@KINDS
def test_what_a_student_learns_to_write_is_read_back(kind: TaskKind) -> None:
    _, answer, labels = TASKS[kind]
    task = task_of(kind)
    for target in (
        render_template(task.templates.label_target, answer=answer),
        render_template(task.templates.rationale_target, rationale="Because.", answer=answer),
    ):
        assert grade(kind, task.read(target, labels), answer).is_correct
    assert task.read("I do not know.", labels) == NO_ANSWER
    assert grade(kind, NO_ANSWER, answer).credit == 0.0


def test_an_invented_example_must_have_the_labels_that_its_domain_shares() -> None:
    single, several = task_of(TaskKind.CLASSIFICATION), task_of(TaskKind.MULTI_LABEL)
    assert single.required_of({"a"}) == "a"
    assert single.required_of({"a", "b"}) is None
    assert several.required_of({"a; c", "c; b; a"}) == "a; c"
    assert several.fits("a; b; c", required="a; c", question="")
    assert not several.fits("a; b", required="a; c", question="")
    assert several.required_of({"a", "b"}) is None


def test_a_domain_with_one_problem_does_not_prescribe_its_result_or_letter() -> None:
    assert task_of(TaskKind.MATH).required_of({"42"}) is None
    assert task_of(TaskKind.MULTIPLE_CHOICE).required_of({"B"}) is None
    assert task_of(TaskKind.ABSTRACTIVE_QA).required_of({"Paul"}) is None


def test_an_invented_question_must_have_the_option_that_is_said_to_be_right() -> None:
    task = task_of(TaskKind.MULTIPLE_CHOICE)
    assert task.fits("C", required=None, question=CHOICE)
    assert not task.fits("D", required=None, question=CHOICE)
    assert not task.fits("A", required=None, question="What is cold?")
    assert task.fits("A", required=None, question="What is cold?\n(A) ice\n(B) fire")
