"""What a teacher call can cost at most, known before it is sent and without a network (DESIGN 4). Pure."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from baldistill.datasets.examples import DomainCounts, Example
from baldistill.errors import InvalidInput
from baldistill.specs.frozen import FrozenRun
from baldistill.specs.runspec import TeacherSpec
from baldistill.tasks.prompts import (
    ChatMessage,
    Demonstration,
    annotation_messages,
    rationale_bytes_shown,
    synthesis_messages,
)

# No tokenizer makes more tokens than bytes; role names and separators of a message take at most this many.
TOKENS_PER_MESSAGE = 16
_NANO_PER_USD = 1_000_000_000
_TOKENS_PER_PRICE = 1_000_000


class UnpricedTeacher(InvalidInput):
    """A paid teacher without a price: its cost would have no bound."""

    def __init__(self, *, model: str, remedy: str = "") -> None:
        """remedy: what was looked up, and where a price is to be written."""
        super().__init__(
            f"model '{model}' has no price"
            + (f" {remedy}" if remedy else "; set input_usd_per_million_tokens and output_usd_per_million_tokens")
            + " (0 for a teacher of your own that costs nothing per token)",
            field="teacher.price",
        )
        self.model = model


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrice:
    """Price of a model in USD per million tokens."""

    input_usd_per_million_tokens: Decimal
    output_usd_per_million_tokens: Decimal


FREE = TokenPrice(input_usd_per_million_tokens=Decimal(0), output_usd_per_million_tokens=Decimal(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBound:
    """The most that one call, or several together, can use."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    nano_usd: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: CallBound) -> CallBound:
        return CallBound(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            nano_usd=self.nano_usd + other.nano_usd,
        )

    def times(self, count: int) -> CallBound:
        """Return the bound of `count` such calls. Each is rounded up by itself, as the ledger books it."""
        return CallBound(
            calls=self.calls * count,
            prompt_tokens=self.prompt_tokens * count,
            completion_tokens=self.completion_tokens * count,
            nano_usd=self.nano_usd * count,
        )


NOTHING = CallBound(calls=0, prompt_tokens=0, completion_tokens=0, nano_usd=0)


def price_of(teacher: TeacherSpec) -> TokenPrice:
    """Return the price that bounds and bookings use. Teachers in this process are free unless priced.

    Raises UnpricedTeacher.
    """
    if teacher.price is not None:
        return TokenPrice(
            input_usd_per_million_tokens=teacher.price.input_usd_per_million_tokens,
            output_usd_per_million_tokens=teacher.price.output_usd_per_million_tokens,
        )
    if teacher.kind in {"protocol", "oracle"}:
        return FREE
    raise UnpricedTeacher(model=teacher.model)


def cost_nano_usd(price: TokenPrice, *, prompt_tokens: int, completion_tokens: int) -> int:
    """Return one call's cost in nano-USD, rounded up once."""
    prompt, completion, per = _whole_parts(price)
    return -(-(prompt * prompt_tokens + completion * completion_tokens) // per)


@functools.lru_cache(maxsize=1024)
def _whole_parts(price: TokenPrice) -> tuple[int, int, int]:
    """Return nano-USD of a prompt and a completion token as whole parts of one unit, and the parts of a nano-USD."""
    prompt, completion = (
        Fraction(usd) * _NANO_PER_USD / _TOKENS_PER_PRICE
        for usd in (price.input_usd_per_million_tokens, price.output_usd_per_million_tokens)
    )
    per = math.lcm(prompt.denominator, completion.denominator)
    return int(prompt * per), int(completion * per), per


def ceiling_nano_usd(usd: Decimal) -> int:
    """Return a ceiling given in USD as nano-USD, rounded down: never more than what was allowed."""
    return math.floor(Fraction(usd) * _NANO_PER_USD)


def prompt_tokens_bound(messages: Sequence[ChatMessage], *, tools_json: str = "") -> int:
    """Return the most tokens a prompt can have: UTF-8 bytes of messages and tools, plus 16 per message."""
    size_bytes = sum(len(message.content.encode()) for message in messages) + len(tools_json.encode())
    return size_bytes + TOKENS_PER_MESSAGE * len(messages)


def call_bound(
    messages: Sequence[ChatMessage],
    *,
    max_completion_tokens: int,
    price: TokenPrice,
    answers: int = 1,
    tools_json: str = "",
) -> CallBound:
    """Return what one call can use at most. answers: OpenAI's `n`."""
    prompt_tokens = prompt_tokens_bound(messages, tools_json=tools_json)
    return bound_of(prompt_tokens=prompt_tokens, completion_tokens=max_completion_tokens * answers, price=price)


def bound_of(*, prompt_tokens: int, completion_tokens: int, price: TokenPrice) -> CallBound:
    """Return what one call can use at most whose tokens are bounded already."""
    return CallBound(
        calls=1,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        nano_usd=cost_nano_usd(price, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens),
    )


def worst_annotation_bound(frozen: FrozenRun, counts: DomainCounts) -> CallBound:
    """Return the bound of annotating any one example of a domain, for a plan made before examples are chosen.

    The longest input with the longest answer; templates only ever insert them. Raises UnpricedTeacher.
    """
    longest = Example(
        example_id="", domain="", input="x" * counts.longest_input_bytes, answer="x" * counts.longest_answer_bytes
    )
    return _bound(frozen, annotation_messages(frozen, longest))


def worst_synthesis_bound(frozen: FrozenRun, domain: str, counts: DomainCounts) -> CallBound:
    """Return the bound of one synthesised example of a domain, before its demonstrations are known.

    Raises UnpricedTeacher.
    """
    longest = Demonstration(
        input="x" * counts.longest_input_bytes,
        answer="x" * counts.longest_answer_bytes,
        rationale="x" * rationale_bytes_shown(frozen),
    )
    return _bound(frozen, synthesis_messages(frozen, domain, [longest] * frozen.spec.synthesis.demonstrations))


def _bound(frozen: FrozenRun, messages: Sequence[ChatMessage]) -> CallBound:
    teacher = frozen.spec.teacher
    return call_bound(messages, max_completion_tokens=teacher.max_completion_tokens, price=price_of(teacher))
