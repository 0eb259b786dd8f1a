"""What a provider answered to a chat completion: usage and end read, everything else left as it came. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from services.teacher_gateway.ports import CallEnd, CallResult

# How the reply of a broken answer is stored: it was paid for and is all that there is.
CUT = "cut"
MALFORMED = "malformed"
_END_OF_EVENT = re.compile(rb"\r?\n\r?\n")
_DATA = b"data:"
_DONE = b"[DONE]"


def answer_of(body: bytes, *, model: str, keeps_text: bool) -> CallResult:
    """Return a complete 2xx answer. Where it does not say its usage, the bound is booked."""
    answer = _object(body)
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    usage = _usage(answer)
    return CallResult(
        end=CallEnd.ANSWERED,
        text=storable(body) if keeps_text else "",
        finish_reason=MALFORMED if first is None else str(first.get("finish_reason") or ""),
        model=_text(answer.get("model"), other=model),
        prompt_tokens=None if usage is None else usage.prompt_tokens,
        completion_tokens=None if usage is None else usage.completion_tokens,
    )


def cut_answer(body: bytes, *, model: str, keeps_text: bool) -> CallResult:
    """Return a 2xx answer that broke off: settled at its bound (DESIGN 4, Booking)."""
    return CallResult(end=CallEnd.ANSWERED, text=storable(body) if keeps_text else "", finish_reason=CUT, model=model)


def storable(body: bytes) -> str:
    """Return a body as text that every database takes; what is no UTF-8, or NUL, is replaced."""
    return body.decode(errors="replace").replace("\0", "\ufffd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that the provider counted."""

    prompt_tokens: int
    completion_tokens: int


class ChatStream:
    """Reads a stream of server-sent events on its way to the caller. Holds back the closing `[DONE]`: it is sent once the
    answer is booked, so that who has seen it can rely on it.

    shows_usage: the caller asked for the usage; else its event is left out, and so is the field of the others.
    """

    def __init__(self, *, shows_usage: bool) -> None:
        self._shows_usage = shows_usage
        self._rest = b""
        self._usage: Usage | None = None
        self._finish_reason = ""
        self._model = ""
        self._is_done = False

    @property
    def is_complete(self) -> bool:
        """Whether the answer was whole. Some servers send no `[DONE]`."""
        return self._is_done or (self._usage is not None and bool(self._finish_reason))

    def feed(self, received: bytes) -> bytes:
        """Take bytes in; return the whole events that go on to the caller."""
        *events, self._rest = _END_OF_EVENT.split(self._rest + received)
        return b"".join(shown for event in events if (shown := self._shown(event)))

    def result(self, received: bytes, *, model: str, keeps_text: bool) -> CallResult:
        """Return the answer at the stream's end. received: all that came."""
        model = self._model or model
        if not self.is_complete:
            return cut_answer(received, model=model, keeps_text=keeps_text)
        return CallResult(
            end=CallEnd.ANSWERED,
            text=storable(received) if keeps_text else "",
            finish_reason=self._finish_reason,
            model=model,
            prompt_tokens=None if self._usage is None else self._usage.prompt_tokens,
            completion_tokens=None if self._usage is None else self._usage.completion_tokens,
        )

    def _shown(self, event: bytes) -> bytes:
        if not event.startswith(_DATA):
            return event + b"\n\n" if event.strip() else b""
        data = event[len(_DATA) :].strip()
        if data == _DONE:
            self._is_done = True
            return b""
        chunk = _object(data)
        self._note(chunk)
        if "usage" not in chunk or self._shows_usage:
            return event + b"\n\n"
        if chunk["usage"] is not None and not chunk.get("choices"):
            return b""
        del chunk["usage"]
        return b"data: " + json.dumps(chunk, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"

    def _note(self, chunk: dict[str, Any]) -> None:
        self._usage = _usage(chunk) or self._usage
        self._model = self._model or _text(chunk.get("model"), other="")
        for choice in chunk.get("choices") or ():
            if isinstance(choice, dict) and choice.get("finish_reason"):
                self._finish_reason = str(choice["finish_reason"])


def _usage(answer: dict[str, Any]) -> Usage | None:
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    if not all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts):
        return None
    return Usage(prompt_tokens=usage["prompt_tokens"], completion_tokens=usage["completion_tokens"])


def _object(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _text(value: object, *, other: str) -> str:
    return value if isinstance(value, str) and value else other
