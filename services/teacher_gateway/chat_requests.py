"""A chat completion in OpenAI's form: which fields are allowed, what bounds it, what is sent on (DESIGN 4). Pure.

A field that is not listed is refused: it may be billed in a way that nothing here bounds (`prediction`, `service_tier`,
`web_search_options`, images, audio), or be read by the provider in another way than here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baldistill.errors import InvalidInput
from baldistill.tasks.bounds import TOKENS_PER_MESSAGE
from services.teacher_gateway.requests import ForwardedBody

# These change what is sampled or how it is shown, never how much can be billed.
_UNBILLED = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "metadata",
        "model",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "stop",
        "temperature",
        "top_logprobs",
        "top_p",
        "user",
    }
)
# The provider writes these into the prompt.
_PROMPTED = ("response_format", "tool_choice", "tools")
_BOUNDING = frozenset({"max_completion_tokens", "max_tokens", "messages", "n", "stream", "stream_options"})
_ALLOWED = _UNBILLED | _BOUNDING | frozenset(_PROMPTED)
_MESSAGE_FIELDS = frozenset({"content", "name", "refusal", "role", "tool_call_id", "tool_calls"})
_ROLES = frozenset({"assistant", "developer", "system", "tool", "user"})
_TEXT_PARTS = {"text": "text", "refusal": "refusal"}
_STREAM_OPTIONS = frozenset({"include_obfuscation", "include_usage"})
# OpenAI's own limit.
_MOST_ANSWERS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """payload: what is sent on.   streams: the answer comes in events.   shows_usage: the caller asked for a stream's usage."""

    model: str
    payload: bytes
    streams: bool
    shows_usage: bool
    body: ForwardedBody


def read_fields(raw: bytes) -> dict[str, Any]:
    """Return the fields of a request's body. Raises InvalidInput.

    A name that is there twice is refused: the provider's parser might take the other one, and with it another bound.
    """
    try:
        fields = json.loads(raw.decode(), object_pairs_hook=_each_once, parse_constant=_no_constant)
    except InvalidInput:
        raise
    except (ValueError, RecursionError):
        raise InvalidInput("the body is not JSON in UTF-8") from None
    if not isinstance(fields, dict):
        raise InvalidInput("the body is not a JSON object")
    if unknown := sorted(fields.keys() - _ALLOWED):
        raise InvalidInput("is not allowed here: what it can cost has no bound; leave it out", field=_shown(unknown[0]))
    if not isinstance(fields.get("model"), str) or not fields["model"]:
        raise InvalidInput("names a model; see /v1/models", field="model")
    return fields


def chat_request(fields: Mapping[str, Any], raw: bytes, *, default_max_tokens: int | None) -> ChatRequest:
    """Return the request with its bound. Raises InvalidInput where it has none.

    default_max_tokens: for a request that sets no limit; None: such a request is refused.
    """
    streams, shows_usage = _streaming(fields)
    most_tokens, is_set = _most_tokens(fields, default=default_max_tokens)
    answers = _whole_number(fields.get("n", 1), field="n", most=_MOST_ANSWERS)
    prompt_tokens = _prompt_tokens(fields)
    changes: dict[str, Any] = {} if is_set else {"max_completion_tokens": most_tokens}
    if streams and not shows_usage:
        # The ledger needs the usage; who did not ask for it does not see it.
        changes["stream_options"] = {**(fields.get("stream_options") or {}), "include_usage": True}
    payload = _compact({**fields, **changes}) if changes else raw
    decides = {name: value for name, value in fields.items() if name != "stream_options"}
    sha256 = hashlib.sha256(json.dumps([decides, most_tokens], sort_keys=True).encode()).hexdigest()
    return ChatRequest(
        model=fields["model"],
        payload=payload,
        streams=streams,
        shows_usage=shows_usage,
        body=ForwardedBody(sha256=sha256, prompt_tokens=prompt_tokens, completion_tokens=most_tokens * answers),
    )


def _streaming(fields: Mapping[str, Any]) -> tuple[bool, bool]:
    streams = fields.get("stream") or False
    options = fields.get("stream_options") or {}
    if not isinstance(streams, bool):
        raise InvalidInput("is true or false", field="stream")
    if not isinstance(options, dict) or options.keys() - _STREAM_OPTIONS:
        raise InvalidInput(f"may have {', '.join(sorted(_STREAM_OPTIONS))}", field="stream_options")
    if options and not streams:
        raise InvalidInput("needs stream: true", field="stream_options")
    return streams, options.get("include_usage") is True


def _most_tokens(fields: Mapping[str, Any], *, default: int | None) -> tuple[int, bool]:
    """Return the most tokens of one answer, and whether the caller set it."""
    given = {name: fields[name] for name in ("max_completion_tokens", "max_tokens") if fields.get(name) is not None}
    if len(given) > 1:
        raise InvalidInput("is the older name of max_completion_tokens; set one of them", field="max_tokens")
    for name, value in given.items():
        return _whole_number(value, field=name), True
    if default is None:
        raise InvalidInput("must be set: the reserve is made for it", field="max_completion_tokens")
    return default, False


def _prompt_tokens(fields: Mapping[str, Any]) -> int:
    """Return the most tokens that the prompt can have: UTF-8 bytes of all that goes into it, plus 16 for each message and tool."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("is a list of one message or more", field="messages")
    tools = _tools(fields)
    size_bytes = sum(_message_bytes(one, field=f"messages[{place}]") for place, one in enumerate(messages))
    size_bytes += sum(len(_compact(fields[name])) for name in _PROMPTED if fields.get(name) is not None)
    return size_bytes + TOKENS_PER_MESSAGE * (len(messages) + len(tools))


def _tools(fields: Mapping[str, Any]) -> Sequence[Any]:
    tools = fields.get("tools") or []
    if not isinstance(tools, list) or any(not isinstance(one, dict) or one.get("type") != "function" for one in tools):
        raise InvalidInput(
            "may have tools of type 'function'; the provider's own tools are billed apart", field="tools"
        )
    return tools


def _message_bytes(message: Any, *, field: str) -> int:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise InvalidInput(f"is an object with a role of {', '.join(sorted(_ROLES))}", field=field)
    if unknown := sorted(message.keys() - _MESSAGE_FIELDS):
        raise InvalidInput("is not allowed here: what it can cost has no bound", field=f"{field}.{_shown(unknown[0])}")
    size_bytes = _content_bytes(message.get("content"), field=f"{field}.content")
    for name in ("name", "refusal", "tool_call_id"):
        if message.get(name) is not None:
            size_bytes += _text_bytes(message[name], field=f"{field}.{name}")
    return size_bytes + (len(_compact(message["tool_calls"])) if message.get("tool_calls") else 0)


def _content_bytes(content: Any, *, field: str) -> int:
    if content is None:
        return 0
    if isinstance(content, str):
        return _text_bytes(content, field=field)
    if not isinstance(content, list):
        raise InvalidInput("is text, or a list of parts of text", field=field)
    size_bytes = 0
    for place, part in enumerate(content):
        kind = _TEXT_PARTS.get(str(part.get("type"))) if isinstance(part, dict) else None
        if kind is None or part.keys() - {"type", kind}:
            raise InvalidInput("is no part of text; images, audio and files have no bound", field=f"{field}[{place}]")
        size_bytes += _text_bytes(part.get(kind), field=f"{field}[{place}].{kind}")
    return size_bytes


def _text_bytes(text: Any, *, field: str) -> int:
    if not isinstance(text, str):
        raise InvalidInput("is text", field=field)
    # JSON can spell half of a surrogate pair; it has three bytes, as its replacement has.
    return len(text.encode("utf-8", "surrogatepass"))


def _whole_number(value: Any, *, field: str, most: int = 2**31 - 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InvalidInput(f"is a whole number from 1 to {most}", field=field)
    return value


def _compact(value: Any) -> bytes:
    """Return JSON as short as it gets; text in ASCII escapes is never shorter than its UTF-8."""
    return json.dumps(value, separators=(",", ":")).encode()


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput("is there twice", field=_shown(twice))
    return fields


def _no_constant(name: str) -> None:
    raise InvalidInput(f"{name} is no JSON")


def _shown(name: str) -> str:
    return name[:64]
