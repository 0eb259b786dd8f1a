"""What the teacher is sent, and that a plan's bound covers it."""

from __future__ import annotations

from baldistill.datasets.examples import DomainCounts
from baldistill.tasks.bounds import FREE, call_bound, worst_annotation_bound, worst_synthesis_bound
from baldistill.tasks.prompts import Demonstration, annotation_messages, synthesis_messages
from baldistill.testing.teacher_runs import frozen_run, tickets

FROZEN = frozen_run(teacher={"kind": "protocol", "max_completion_tokens": 10})
(TICKET,) = tickets("billing", 1)
COUNTS = DomainCounts(pool=1, test=0, longest_input_bytes=len(TICKET.input), longest_answer_bytes=len(TICKET.answer))


def test_an_annotation_shows_text_labels_and_the_true_answer() -> None:
    system, user = annotation_messages(FROZEN, TICKET)
    assert (system.role, user.role) == ("system", "user")
    assert user.content.startswith(f"Labels: billing, login\nText: {TICKET.input}\nThe correct label is: billing\n")
    assert user.content.endswith("Answer: billing")


def test_a_synthesis_shows_its_demonstrations_in_tags() -> None:
    shown = [Demonstration(input="one", answer="billing", rationale="r"), Demonstration(input="two", answer="billing")]
    user = synthesis_messages(FROZEN, "money", shown)[1].content
    assert "examples of the domain money" in user
    assert "<input>one</input>\n<rationale>r</rationale>\n<answer>billing</answer>" in user
    assert "<input>two</input>\n<answer>billing</answer>" in user


def test_a_long_rationale_is_cut_where_a_plan_could_not_bound_it() -> None:
    shown = [Demonstration(input="one", answer="billing", rationale="é" * 100)]
    user = synthesis_messages(FROZEN, "money", shown)[1].content
    assert f"<rationale>{'é' * 20}</rationale>" in user  # 10 tokens of 4 bytes, 2 bytes each


def test_the_worst_case_of_a_domain_covers_each_of_its_requests() -> None:
    annotation = call_bound(annotation_messages(FROZEN, TICKET), max_completion_tokens=10, price=FREE)
    assert worst_annotation_bound(FROZEN, COUNTS) == annotation
    shown = Demonstration(input=TICKET.input, answer=TICKET.answer, rationale="é" * 100)
    for count in range(4):
        synthesis = call_bound(
            synthesis_messages(FROZEN, "money", [shown] * count), max_completion_tokens=10, price=FREE
        )
        assert synthesis.tokens <= worst_synthesis_bound(FROZEN, "money", COUNTS).tokens
