"""The real `openai` client against the face: whole answers, streams, tools, keys, and what it is told when it is refused."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from baldistill.testing.chat_provider import ANSWER, ANSWER_TOKENS
from services.teacher_gateway.ledger.budgets import BudgetPath, Ceilings
from services.teacher_gateway.ledger.holds import HoldState
from tests.integration.teacher_gateway.http.conftest import TENANT, Face, ask, error_of

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
PROMPT_TOKENS = 4 + len("Which label?") // 4
# At 1 USD a million tokens in and 2 out: 1,000 and 2,000 nano-USD a token.
COST = PROMPT_TOKENS * 1000 + ANSWER_TOKENS * 2000
BOUND_TOKENS = len("Which label?") + 16 + 64


def test_an_answer_costs_what_the_provider_counted_and_is_passed_on_as_it_is(face: Face) -> None:
    budget = face.budget()
    answer = ask(face.client(budget))
    assert answer.choices[0].message.content == ANSWER
    assert answer.usage.completion_tokens == ANSWER_TOKENS
    spent = face.spent(budget)
    assert (spent.calls, spent.tokens, spent.nano_usd) == (1, PROMPT_TOKENS + ANSWER_TOKENS, COST)
    assert set(face.request_ids(budget)) <= set(face.seen())


@pytest.mark.parametrize("asks_usage", [False, True])
def test_a_stream_is_metered_and_shows_its_usage_only_to_who_asked(face: Face, asks_usage: bool) -> None:
    budget = face.budget()
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if asks_usage else {}
    events = list(ask(face.client(budget), stream=True, **options))
    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert text.split() == ANSWER.split()
    assert [event.usage.completion_tokens for event in events if event.usage] == ([ANSWER_TOKENS] if asks_usage else [])
    assert all(event.choices for event in events) is not asks_usage
    # The last event is held back until the answer is booked.
    assert face.states(budget) == [HoldState.SETTLED]
    assert face.spent(budget).nano_usd == COST


def test_a_stream_of_raw_events_has_no_trace_of_the_usage_that_nobody_asked_for(face: Face) -> None:
    with face.client(face.budget()).chat.completions.with_streaming_response.create(
        model="gpt-fake", max_tokens=64, stream=True, messages=[{"role": "user", "content": "hello"}]
    ) as response:
        events = response.read().decode()
    assert "usage" not in events
    assert events.endswith("data: [DONE]\n\n")
    assert response.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_pass_through(face: Face, stream: bool) -> None:
    budget = face.budget()
    answer = ask(face.client(budget), "!tools", tools=[TOOL], tool_choice="auto", stream=stream)
    if stream:
        (call,) = [event.choices[0].delta.tool_calls[0] for event in answer if event.choices[0].delta.tool_calls]
    else:
        (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Bern"}')
    assert face.states(budget) == [HoldState.SETTLED]


def test_a_cut_stream_is_an_error_to_the_client_and_booked_at_its_bound(face: Face) -> None:
    budget = face.budget()
    with pytest.raises(openai.APIError, match="broke off"):
        list(ask(face.client(budget), "!cut", stream=True))
    assert face.states(budget) == [HoldState.SETTLED]
    assert face.spent(budget).tokens == len("!cut") + 16 + 64


def test_a_cut_answer_is_an_error_and_booked_at_its_bound(face: Face) -> None:
    budget = face.budget()
    with pytest.raises(openai.APIStatusError) as raised:
        ask(face.client(budget), "!cut")
    assert (raised.value.status_code, error_of(raised)["code"]) == (502, "answer_cut")
    assert face.spent(budget).tokens == len("!cut") + 16 + 64


def test_an_answer_without_usage_is_booked_at_its_bound(face: Face) -> None:
    budget = face.budget()
    ask(face.client(budget), "!nousage")
    assert face.spent(budget).tokens == len("!nousage") + 16 + 64


def test_a_timeout_is_unknown_and_tells_clients_not_to_ask_again_by_themselves(face: Face) -> None:
    budget = face.budget()
    with pytest.raises(openai.APIStatusError) as raised:
        ask(face.client(budget), "!hang", model="short")
    assert (raised.value.status_code, error_of(raised)["code"]) == (504, "outcome_unknown")
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert face.states(budget) == [HoldState.UNKNOWN]


def test_who_hangs_up_stops_neither_the_reading_nor_the_booking(face: Face) -> None:
    budget = face.budget()
    client = face.client(budget, timeout=0.2)
    with pytest.raises(openai.APITimeoutError):
        ask(client, "!hang", model="short")
    with ask(face.client(budget), stream=True) as events:
        next(iter(events))
    give_up_at = time.monotonic() + 60
    while face.states(budget) != [HoldState.UNKNOWN, HoldState.SETTLED]:
        assert time.monotonic() < give_up_at, face.states(budget)
        time.sleep(0.02)
    assert face.spent(budget).nano_usd > COST


@pytest.mark.parametrize(("status", "error"), [(400, openai.BadRequestError), (500, openai.InternalServerError)])
def test_the_providers_own_errors_are_passed_on_and_cost_nothing(
    face: Face, status: int, error: type[openai.APIStatusError]
) -> None:
    budget = face.budget()
    with pytest.raises(error) as raised:
        ask(face.client(budget), f"!status {status}")
    assert error_of(raised)["code"] == "ordered"
    assert raised.value.response.headers["x-baldistill-origin"] == "provider"
    assert face.states(budget) == [HoldState.RELEASED]
    assert face.spent(budget).calls == 0


def test_a_provider_that_wants_to_be_left_alone_is_and_who_says_so_can_be_told(face: Face) -> None:
    budget = face.budget()
    told = []
    for _ in range(2):
        with pytest.raises(openai.RateLimitError) as raised:
            ask(face.client(budget), "!status 429", model="paced")
        headers = raised.value.response.headers
        told.append((headers["x-baldistill-origin"], error_of(raised)["code"], headers["retry-after"]))
    assert told == [("provider", "ordered", "3"), ("gateway", "gateway_busy", "3")]
    assert face.states(budget) == [HoldState.RELEASED]


def test_a_provider_that_refuses_our_key_is_told_of_without_its_words(face: Face) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        ask(face.client(face.budget()), model="wrong-key")
    assert (raised.value.status_code, error_of(raised)["code"]) == (502, "provider_refused")
    assert "sk-secret" not in raised.value.response.text


def test_a_provider_that_is_away_costs_nothing(face: Face) -> None:
    budget = face.budget()
    with pytest.raises(openai.APIStatusError) as raised:
        ask(face.client(budget), model="away")
    assert (raised.value.status_code, error_of(raised)["code"]) == (503, "gateway_unavailable")
    assert face.states(budget) == [HoldState.RELEASED]


def test_an_exhausted_budget_says_which_one_and_what_is_left(face: Face) -> None:
    budget = face.budget(tokens=BOUND_TOKENS + 1)
    ask(face.client(budget))
    with pytest.raises(openai.APIStatusError) as raised:
        ask(face.client(budget))
    assert raised.value.status_code == 402
    error = error_of(raised)
    used = PROMPT_TOKENS + ANSWER_TOKENS
    assert (error["type"], error["code"]) == ("insufficient_quota", "budget_exhausted")
    assert error["budget"] == {
        "path": {"tenant": TENANT, "run": budget.run_id, "stage": None, "domain": None},
        "unit": "tokens",
        "ceiling": BOUND_TOKENS + 1,
        "spent": used,
        "held": 0,
        "remaining": BOUND_TOKENS + 1 - used,
        "asked": BOUND_TOKENS,
    }


def test_money_that_a_call_under_way_holds_is_worth_coming_back_for(face: Face) -> None:
    budget = face.budget(calls=1)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(ask, face.client(budget), "!hang", model="short")
        while not face.held(budget):
            time.sleep(0.01)
        with pytest.raises(openai.RateLimitError) as raised:
            ask(face.client(budget))
        assert isinstance(first.exception(), openai.APIStatusError)
    error = error_of(raised)
    assert (error["code"], error["budget"]["held"], error["budget"]["remaining"]) == ("budget_held", 1, 0)
    assert raised.value.response.headers["retry-after"] == "1"
    assert raised.value.response.headers["x-baldistill-origin"] == "gateway"


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_is_paid_once_and_gives_the_same_answer_again(face: Face, stream: bool) -> None:
    budget = face.budget()
    key = {"Idempotency-Key": f"once-{stream}"}
    texts = []
    for _ in range(2):
        answer = ask(face.client(budget), stream=stream, extra_headers=key)
        if stream:
            texts.append("".join(event.choices[0].delta.content or "" for event in answer))
        else:
            texts.append(answer.choices[0].message.content)
    assert texts[0] == texts[1]
    assert texts[0].split() == ANSWER.split()
    assert face.states(budget) == [HoldState.SETTLED]


def test_a_key_with_another_request_is_refused_and_not_paid(face: Face) -> None:
    budget = face.budget()
    key = {"Idempotency-Key": "changed"}
    ask(face.client(budget), extra_headers=key)
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        ask(face.client(budget), "Another?", extra_headers=key)
    assert error_of(raised)["code"] == "idempotency_key_reused"
    assert face.spent(budget).calls == 1


def test_a_second_caller_of_a_key_waits_for_the_first(face: Face) -> None:
    budget = face.budget()
    together = threading.Barrier(4)

    def once() -> str:
        client = face.client(budget)
        together.wait()
        return str(ask(client, extra_headers={"Idempotency-Key": "together"}).choices[0].message.content)

    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(once) for _ in range(4)]
        assert {answer.result() for answer in answers} == {ANSWER}
    assert face.states(budget) == [HoldState.SETTLED]


def test_another_tenants_key_is_another_key(face: Face) -> None:
    budget = face.budget()
    face.gateway.ledger.ensure_budget(BudgetPath(tenant="other"), ceilings=Ceilings(), actor="test")
    key = {"Idempotency-Key": "shared"}
    ask(face.client(budget), extra_headers=key)
    answer = face.client(token="other").chat.completions.with_raw_response.create(
        model="gpt-fake", max_tokens=8, messages=[{"role": "user", "content": "x"}], extra_headers=key
    )
    assert "x-baldistill-stored" not in answer.headers


def test_without_a_header_the_tenants_own_budget_is_asked(face: Face) -> None:
    own = BudgetPath(tenant="lonely")
    with pytest.raises(openai.NotFoundError) as raised:
        ask(face.client(token="lonely"))
    assert error_of(raised)["code"] == "budget_not_found"
    face.gateway.ledger.ensure_budget(own, ceilings=Ceilings(), actor="test")
    ask(face.client(token="lonely"))
    assert face.spent(own).calls == 1


def test_another_tenants_budget_is_denied_and_only_admins_name_one(face: Face) -> None:
    budget = face.budget()
    other = {"X-BalDistill-Tenant": TENANT}
    with pytest.raises(openai.PermissionDeniedError) as raised:
        ask(face.client(budget, token="other"), extra_headers=other)
    assert error_of(raised)["code"] == "access_denied"
    ask(face.client(budget, token="admin"), extra_headers=other)
    assert face.spent(budget).calls == 1


def test_a_token_that_stands_for_nobody_is_refused(face: Face) -> None:
    with pytest.raises(openai.AuthenticationError) as raised:
        ask(face.client(token="nobody"))
    assert error_of(raised)["code"] == "invalid_api_key"


@pytest.mark.parametrize("model", ["gpt-unknown", "others"])
def test_an_unknown_model_and_another_tenants_are_told_alike(face: Face, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        ask(face.client(face.budget()), model=model)
    assert error_of(raised)["code"] == "model_not_found"
    assert error_of(raised)["message"] == f"The model `{model}` does not exist or you do not have access to it"
    with pytest.raises(openai.NotFoundError):
        face.client().models.retrieve(model)


def test_each_tenant_sees_its_own_models(face: Face) -> None:
    everybodys = {"away", "gpt-fake", "paced", "short", "wrong-key"}
    assert {model.id for model in face.client().models.list()} == everybodys
    assert {model.id for model in face.client(token="other").models.list()} == everybodys | {"others"}
    assert face.client().models.retrieve("gpt-fake").id == "gpt-fake"


def test_a_request_without_a_limit_is_refused_unless_the_model_has_a_default(face: Face) -> None:
    budget = face.budget()
    client = face.client(budget)
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="gpt-fake", messages=[{"role": "user", "content": "x"}])
    assert error_of(raised)["param"] == "max_completion_tokens"
    assert face.states(budget) == []
    answer = client.chat.completions.create(model="short", messages=[{"role": "user", "content": "x"}])
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


def test_a_frozen_budget_refuses(face: Face) -> None:
    budget = face.budget()
    face.gateway.ledger.freeze(budget, actor="test")
    with pytest.raises(openai.PermissionDeniedError) as raised:
        ask(face.client(budget))
    assert error_of(raised)["code"] == "budget_frozen"
