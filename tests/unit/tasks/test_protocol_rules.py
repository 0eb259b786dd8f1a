"""The protocol teacher: readable answers by fixed rules, and failures to order."""

from __future__ import annotations

from baldistill.specs.runspec import ProtocolTeacherSpec
from baldistill.tasks.answers import parse_annotation, parse_synthesis
from baldistill.tasks.bounds import prompt_tokens_bound
from baldistill.tasks.prompts import ChatMessage, Demonstration, annotation_messages, synthesis_messages
from baldistill.tasks.protocol_rules import ProtocolAnswer, answer_by_rules
from baldistill.testing.teacher_runs import frozen_run, tickets

FROZEN = frozen_run()
TICKETS = tickets("billing", 40)
SHOWN = [Demonstration(input=one.input, answer=one.answer) for one in TICKETS[:3]]


def ask(
    messages: tuple[ChatMessage, ...], *, seed: int | None = None, request_id: str = "k/1", **behaviour: float
) -> ProtocolAnswer:
    return answer_by_rules(
        messages,
        seed=seed,
        max_completion_tokens=256,
        request_id=request_id,
        behaviour=ProtocolTeacherSpec(**behaviour),
    )


def test_an_annotation_names_words_of_the_text_and_ends_in_the_label() -> None:
    parsed = parse_annotation(ask(annotation_messages(FROZEN, TICKETS[0])).text)
    assert parsed is not None
    assert parsed.answer == "billing"
    # The three longest uncommon words (problem is as long: equals by name), in the order of the text.
    assert parsed.rationale == "The text mentions Customer, billing and invoice, which is typical of billing."


def test_synthesised_inputs_are_new_and_vary_with_the_seed() -> None:
    messages = synthesis_messages(FROZEN, "billing", SHOWN)
    written = [parse_synthesis(ask(messages, seed=seed).text) for seed in range(20)]
    inputs = {one.input for one in written if one is not None}
    assert len(inputs) >= 15
    assert not inputs & {one.input for one in SHOWN}
    assert {one.answer for one in written if one is not None} == {"billing"}


def test_the_same_request_has_the_same_answer_whatever_the_attempt() -> None:
    messages = synthesis_messages(FROZEN, "billing", SHOWN)
    assert ask(messages, seed=1, request_id="k/1") == ask(messages, seed=1, request_id="k/2")


def test_shares_are_kept_and_server_errors_alone_depend_on_the_attempt() -> None:
    prompts = [annotation_messages(FROZEN, one) for one in TICKETS]
    wrong = [ask(one, wrong_label_share=0.5).text.endswith("Answer: login") for one in prompts]
    assert 10 <= sum(wrong) <= 30
    assert all(parse_annotation(ask(one, unparsable_share=1.0).text) is None for one in prompts)
    statuses = [ask(prompts[0], request_id=f"k/{attempt}", server_error_share=0.5).status for attempt in range(40)]
    assert 10 <= statuses.count(500) <= 30


def test_usage_is_within_the_bound_also_where_the_answer_is_cut() -> None:
    messages = annotation_messages(FROZEN, TICKETS[0])
    cut = answer_by_rules(
        messages, seed=None, max_completion_tokens=3, request_id="k/1", behaviour=ProtocolTeacherSpec()
    )
    assert (cut.finish_reason, cut.completion_tokens, len(cut.text)) == ("length", 3, 12)
    assert 0 < cut.prompt_tokens <= prompt_tokens_bound(messages)
