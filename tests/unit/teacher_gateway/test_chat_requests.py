"""What a chat completion may ask for and how it is bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from baldistill.errors import InvalidInput
from services.teacher_gateway.chat_requests import ChatRequest, chat_request, read_fields

HELLO = {"role": "user", "content": "hello"}


def parsed(*, default: int | None = None, **fields: Any) -> ChatRequest:
    raw = json.dumps({"model": "m", "messages": [HELLO], "max_tokens": 10, **fields}).encode()
    return chat_request(read_fields(raw), raw, default_max_tokens=default)


def test_a_prompt_is_bounded_by_its_bytes_and_sixteen_a_message() -> None:
    messages = [{"role": "system", "content": "Grüezi"}, HELLO]
    assert parsed(messages=messages).body.prompt_tokens == 7 + 5 + 2 * 16
    parts = [{"role": "user", "content": [{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]}]
    assert parsed(messages=parts).body.prompt_tokens == 3 + 16


def test_tools_and_their_calls_are_part_of_the_prompt() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    with_tool = parsed(tools=[tool]).body.prompt_tokens
    assert with_tool == 5 + 16 + 16 + len(json.dumps([tool], separators=(",", ":")))
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    called = parsed(messages=[{"role": "assistant", "content": None, "tool_calls": calls}]).body.prompt_tokens
    assert called == 16 + len(json.dumps(calls, separators=(",", ":")))


def test_every_answer_may_have_the_most_tokens() -> None:
    assert parsed(n=3).body.completion_tokens == 30
    assert parsed(max_tokens=None, max_completion_tokens=7).body.completion_tokens == 7


def test_a_default_limit_is_sent_on_and_a_missing_one_refused() -> None:
    request = parsed(max_tokens=None, default=12)
    assert request.body.completion_tokens == 12
    assert json.loads(request.payload)["max_completion_tokens"] == 12
    with pytest.raises(InvalidInput, match="must be set"):
        parsed(max_tokens=None)


def test_bytes_go_on_as_they_came_but_for_a_streams_usage() -> None:
    raw = b'{ "model":"m","messages":[{"role":"user","content":"\\u00e9"}],"max_tokens":1 }'
    assert chat_request(read_fields(raw), raw, default_max_tokens=None).payload == raw
    stream = parsed(stream=True)
    assert json.loads(stream.payload)["stream_options"] == {"include_usage": True}
    assert not stream.shows_usage
    asked = parsed(stream=True, stream_options={"include_usage": True})
    assert asked.shows_usage


def test_equal_requests_have_equal_hashes_however_they_are_written() -> None:
    first = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]}'
    second = b'{"messages": [{"content": "x", "role": "user"}], "max_tokens": 1, "model": "m"}'
    hashes = {chat_request(read_fields(raw), raw, default_max_tokens=None).body.sha256 for raw in (first, second)}
    assert len(hashes) == 1
    assert parsed(temperature=0.5).body.sha256 != parsed(temperature=0.6).body.sha256


def test_half_of_a_surrogate_pair_has_a_bound() -> None:
    assert parsed(messages=[{"role": "user", "content": "\ud800"}]).body.prompt_tokens == 3 + 16
