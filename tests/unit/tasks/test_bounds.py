"""The bound of a call is known before it is sent, and is never too low."""

from __future__ import annotations

from decimal import Decimal

import pytest

from baldistill.specs.runspec import PriceSpec, TeacherSpec
from baldistill.tasks.bounds import (
    FREE,
    TokenPrice,
    UnpricedTeacher,
    call_bound,
    ceiling_nano_usd,
    cost_nano_usd,
    price_of,
    prompt_tokens_bound,
)
from baldistill.tasks.prompts import ChatMessage

PRICE = TokenPrice(input_usd_per_million_tokens=Decimal("0.15"), output_usd_per_million_tokens=Decimal("0.60"))


def test_a_prompt_has_at_most_its_bytes_and_sixteen_tokens_per_message() -> None:
    messages = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Größe?")]
    assert prompt_tokens_bound(messages) == 9 + 8 + 2 * 16  # ö and ß are two bytes each
    assert prompt_tokens_bound(messages, tools_json='{"a":1}') == 9 + 8 + 2 * 16 + 7


def test_a_call_is_bound_by_its_answers_and_priced_once() -> None:
    bound = call_bound([ChatMessage(role="user", content="x" * 84)], max_completion_tokens=50, answers=2, price=PRICE)
    assert (bound.prompt_tokens, bound.completion_tokens, bound.tokens) == (100, 100, 200)
    assert bound.nano_usd == 100 * 150 + 100 * 600


def test_a_fraction_of_a_nano_usd_is_rounded_up_once_per_call() -> None:
    tiny = TokenPrice(input_usd_per_million_tokens=Decimal("0.0001"), output_usd_per_million_tokens=Decimal("0.0001"))
    # 0.1 nano-USD a token: 3 + 4 tokens are 0.7 nano-USD, not 1 + 1.
    assert cost_nano_usd(tiny, prompt_tokens=3, completion_tokens=4) == 1
    assert cost_nano_usd(tiny, prompt_tokens=0, completion_tokens=0) == 0


def test_a_ceiling_in_usd_is_rounded_down() -> None:
    assert ceiling_nano_usd(Decimal("0.0000000019")) == 1
    assert ceiling_nano_usd(Decimal("2.5")) == 2_500_000_000


def test_several_calls_are_rounded_up_each() -> None:
    tiny = TokenPrice(input_usd_per_million_tokens=Decimal("0.0001"), output_usd_per_million_tokens=Decimal(0))
    one = call_bound([], max_completion_tokens=1, price=tiny)
    priced = call_bound([ChatMessage(role="user", content="")], max_completion_tokens=1, price=tiny)
    assert priced.nano_usd == 2  # 16 tokens are 1.6 nano-USD
    assert (priced.times(3) + one).nano_usd == 6
    assert (priced.times(3) + one).calls == 4


def test_an_unpriced_teacher_is_refused_by_the_field_to_set() -> None:
    with pytest.raises(UnpricedTeacher, match=r"teacher\.price"):
        price_of(TeacherSpec(kind="openai", model="gpt-x", base_url="http://localhost/v1"))


def test_the_protocol_teacher_is_free_unless_priced() -> None:
    assert price_of(TeacherSpec(kind="protocol")) == FREE
    priced = PriceSpec(input_usd_per_million_tokens=Decimal("0.15"), output_usd_per_million_tokens=Decimal("0.60"))
    assert price_of(TeacherSpec(kind="protocol", price=priced)) == PRICE
