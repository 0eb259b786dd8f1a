"""What is read of a provider's answer, and what of a stream goes on to the caller."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.teacher_gateway.chat_answers import CUT, MALFORMED, ChatStream, answer_of
from services.teacher_gateway.ports import CallResult

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    return b"data: " + json.dumps({"model": "m-1", "choices": choices, **more}).encode() + b"\n\n"


def delta(text: str, *, reason: str | None = None, **more: Any) -> bytes:
    return event([{"index": 0, "delta": {"content": text}, "finish_reason": reason}], **more)


STREAM = delta("a", usage=None) + delta("", reason="stop", usage=None) + event([], usage=USAGE) + b"data: [DONE]\n\n"


def read(stream: bytes, *, shows_usage: bool = False, cuts: tuple[int, ...] = ()) -> tuple[bytes, CallResult]:
    reading = ChatStream(shows_usage=shows_usage)
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    shown = b"".join(reading.feed(stream[start:end]) for start, end in itertools.pairwise(edges))
    return shown, reading.result(stream, model="m", keeps_text=True)


@given(st.lists(st.integers(0, 10_000), max_size=6))
def test_a_stream_reads_alike_however_its_bytes_are_cut_into_pieces(cuts: list[int]) -> None:
    shown, result = read(STREAM, cuts=tuple(cuts))
    assert (result.prompt_tokens, result.completion_tokens, result.finish_reason, result.model) == (3, 2, "stop", "m-1")
    assert b"usage" not in shown
    assert b"[DONE]" not in shown
    assert shown.count(b"data: ") == 2


def test_the_usage_is_shown_to_who_asked_for_it() -> None:
    shown, _ = read(STREAM, shows_usage=True)
    assert shown == STREAM.removesuffix(b"data: [DONE]\n\n")


def test_other_line_ends_and_comments_are_understood() -> None:
    stream = b": ping\r\n\r\n" + STREAM.replace(b"\n\n", b"\r\n\r\n")
    shown, result = read(stream)
    assert result.completion_tokens == 2
    assert shown.startswith(b": ping")


def test_a_stream_that_breaks_off_is_cut_and_has_no_usage() -> None:
    _, result = read(STREAM[: len(STREAM) // 2])
    assert (result.finish_reason, result.prompt_tokens) == (CUT, None)


def test_a_usage_in_an_event_with_text_is_taken_out_of_it() -> None:
    shown, result = read(delta("a", reason="stop", usage=USAGE) + b"data: [DONE]\n\n")
    assert result.completion_tokens == 2
    assert b"usage" not in shown
    assert b'"content":"a"' in shown


def test_a_whole_answer_without_sound_usage_is_booked_at_its_bound() -> None:
    for usage in ({}, {"usage": None}, {"usage": {"prompt_tokens": -1, "completion_tokens": 1}}):
        body = json.dumps({"choices": [{"finish_reason": "stop"}], **usage}).encode()
        assert answer_of(body, model="m", keeps_text=False).prompt_tokens is None
    malformed = answer_of(b'{"choices": [', model="m", keeps_text=True)
    assert (malformed.finish_reason, malformed.text) == (MALFORMED, '{"choices": [')
