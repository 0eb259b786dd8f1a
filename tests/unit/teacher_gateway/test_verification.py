"""Only what is right is trained on; the rest is kept with its reason."""

from __future__ import annotations

import pytest

from baldistill.artifacts.schemas import DomainPlan, StagePlan
from baldistill.datasets.examples import Example
from baldistill.tasks.kinds import TaskKind
from baldistill.tasks.registry import task_of
from baldistill.testing.teacher_runs import frozen_run, tickets
from services.teacher_gateway.demonstrations import CandidateDemonstration
from services.teacher_gateway.requests import (
    SynthesisOrder,
    TeacherRequest,
    annotation_request,
    prompt_sha256,
    synthesis_orders,
    synthesis_request,
)
from services.teacher_gateway.verification import RowOutcome, VerifiedRow
from services.teacher_gateway.verification import verify as verify_for_task

LABELS = ("billing", "login")
EXAMPLE = Example(example_id="a", domain="money", input="Where is my refund?", answer="billing")
ANNOTATION = annotation_request(frozen_run(), stage=1, example=EXAMPLE)


def verify(
    request: TeacherRequest,
    text: str,
    *,
    kind: TaskKind = TaskKind.CLASSIFICATION,
    labels: tuple[str, ...] = LABELS,
    checks: str = "format",
) -> VerifiedRow:
    task = task_of(kind)
    with task.open_comparison(5.0) as compare:
        return verify_for_task(request, text, task=task, labels=labels, compare=compare, checks=checks)


def synthesis(*answers: str) -> TeacherRequest:
    originals = [
        CandidateDemonstration(example=Example(example_id=str(n), domain="money", input=f"text {n}", answer=answer))
        for n, answer in enumerate(answers)
    ]
    return synthesis_request(frozen_run(), SynthesisOrder(domain="money", sample=0), stage=1, originals=originals)


@pytest.mark.parametrize(
    ("text", "outcome", "reason"),
    [
        ("It is about money.\nAnswer: billing", RowOutcome.ACCEPTED, ""),
        ("It is about money.\nAnswer: **Billing**.", RowOutcome.ACCEPTED, ""),
        ("It is about money.\nAnswer: login", RowOutcome.REJECTED, "wrong_answer"),
        ("It is about money.\nAnswer: billing or login", RowOutcome.REJECTED, "wrong_answer"),
        ("It is about money.", RowOutcome.REJECTED, "unparsable"),
        ("Answer: billing", RowOutcome.REJECTED, "unparsable"),
        ("", RowOutcome.REJECTED, "unparsable"),
    ],
)
def test_an_annotation_must_explain_and_end_in_the_label(text: str, outcome: RowOutcome, reason: str) -> None:
    row = verify(ANNOTATION, text)
    assert (row.outcome, row.reason, row.input) == (outcome, reason, EXAMPLE.input)
    if outcome is RowOutcome.ACCEPTED:
        assert (row.rationale, row.answer) == ("It is about money.", "billing")


@pytest.mark.parametrize(
    ("answer", "checks", "of_domain", "reason"),
    [
        ("billing", "format", ["billing", "billing"], ""),
        ("BILLING", "format", ["billing"], ""),
        ("login", "format", ["billing", "billing"], "wrong_label"),
        ("login", "format", ["billing", "login"], ""),
        ("other", "format", ["billing", "login"], "wrong_label"),
        ("other", "none", ["billing"], ""),
    ],
)
def test_a_synthesised_example_must_carry_the_domains_label_where_it_has_one(
    answer: str, checks: str, of_domain: list[str], reason: str
) -> None:
    text = f"<input>New?</input><rationale>Because.</rationale><answer>{answer}</answer>"
    row = verify(synthesis(*of_domain), text, checks=checks)
    assert row.reason == reason
    assert (row.input, row.rationale) == ("New?", "Because.")


def test_a_synthesised_example_without_its_tags_is_unparsable_and_kept() -> None:
    row = verify(synthesis("billing"), "<input>New?</input> billing", checks="none")
    assert (row.outcome, row.reason, row.rationale) == (
        RowOutcome.REJECTED,
        "unparsable",
        "<input>New?</input> billing",
    )


def test_a_task_of_free_text_compares_the_text_itself() -> None:
    row = verify(ANNOTATION, "It says so.\nAnswer: billing", kind=TaskKind.ABSTRACTIVE_QA, labels=())
    assert row.outcome is RowOutcome.ACCEPTED


@pytest.mark.parametrize(
    ("kind", "labels", "truth", "aliases", "said", "outcome"),
    [
        (TaskKind.MULTI_LABEL, ("corn", "wheat"), "corn; wheat", (), "wheat; Corn", RowOutcome.ACCEPTED),
        (TaskKind.MULTI_LABEL, ("corn", "wheat"), "corn; wheat", (), "wheat", RowOutcome.REJECTED),
        (TaskKind.MULTI_LABEL, ("corn", "wheat"), "corn", (), "corn; rye", RowOutcome.REJECTED),
        (TaskKind.MULTIPLE_CHOICE, ("A", "B"), "B", (), "(b)", RowOutcome.ACCEPTED),
        (TaskKind.MULTIPLE_CHOICE, ("A", "B"), "B", (), "A", RowOutcome.REJECTED),
        (TaskKind.MATH, (), r"\dfrac{1}{2}", (), r"$\boxed{\frac{1}{2}}$", RowOutcome.ACCEPTED),
        (TaskKind.ABSTRACTIVE_QA, (), "The Beatles", (), "beatles!", RowOutcome.ACCEPTED),
        (TaskKind.ABSTRACTIVE_QA, (), "The Beatles", ("Fab Four",), "the fab four", RowOutcome.ACCEPTED),
        (TaskKind.ABSTRACTIVE_QA, (), "The Beatles", (), "the Beatles, of course", RowOutcome.REJECTED),
    ],
)
def test_a_rationale_is_kept_where_its_answer_is_right_as_its_task_compares(
    kind: TaskKind, labels: tuple[str, ...], truth: str, aliases: tuple[str, ...], said: str, outcome: RowOutcome
) -> None:
    example = Example(example_id="a", domain="d", input="?", answer=truth)
    asked = annotation_request(frozen_run(), stage=1, example=example, aliases=aliases)
    row = verify(asked, f"Because.\nAnswer: {said}", kind=kind, labels=labels)
    assert row.outcome is outcome
    if outcome is RowOutcome.ACCEPTED:
        assert row.answer == truth  # what is learned is the data's own spelling


def test_what_a_stage_lacks_is_asked_for_domain_by_domain() -> None:
    plan = StagePlan(
        stage=1,
        quota=5,
        pooled=False,
        domains={
            "b": DomainPlan(required=3, available=1, select=1, deficit=2),
            "a": DomainPlan(required=2, available=1, select=1, deficit=1),
            "c": DomainPlan(required=1, available=9, select=1, deficit=0),
        },
    )
    assert [(order.domain, order.sample) for order in synthesis_orders(plan)] == [("a", 0), ("b", 0), ("b", 1)]


def test_each_row_has_a_key_of_its_own_that_no_other_run_shares() -> None:
    originals = [CandidateDemonstration(example=one) for one in tickets("money", 3)]
    runs = [frozen_run(), frozen_run(run_id="r2")]
    keys = [
        request.key
        for run in runs
        for stage in (1, 2)
        for request in (
            annotation_request(run, stage=stage, example=EXAMPLE),
            *(
                synthesis_request(run, SynthesisOrder(domain="money", sample=n), stage=stage, originals=originals)
                for n in range(2)
            ),
        )
    ]
    assert len(set(keys)) == len(keys) == 12


def test_whatever_decides_the_answer_changes_the_prompts_hash() -> None:
    changed = [
        frozen_run(),
        frozen_run(teacher={"kind": "protocol", "model": "other"}),
        frozen_run(teacher={"kind": "protocol", "max_completion_tokens": 7}),
    ]
    assert len({prompt_sha256(run.spec.teacher, ANNOTATION) for run in changed}) == 3
    other = annotation_request(frozen_run(), stage=1, example=tickets("money", 1)[0])
    teacher = frozen_run().spec.teacher
    assert prompt_sha256(teacher, other) != prompt_sha256(teacher, ANNOTATION)
