"""Any OpenAI-compatible teacher, by the `openai` client with its own retries off: each hold is one HTTP call."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import openai
from openai import APIResponse, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from baldistill.errors import DependencyUnavailable
from baldistill.tasks.prompts import ChatMessage
from services.teacher_gateway.errors import TeacherRefused
from services.teacher_gateway.ports import CallEnd, CallResult, TeacherCall

# Names, not types: the client's HTTP library is httpx or httpx2, by the client's version. With these no byte of the
# request has left.
_BEFORE_THE_FIRST_BYTE = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError", "InvalidURL"}
)
_CHECK_TIMEOUT_S = 10.0
_LONGEST_DETAIL = 200


class OpenAITeacher:
    """TeacherClient over HTTP. Thread-safe, as the client is."""

    def __init__(self, *, base_url: str, api_key: str, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._client = OpenAI(base_url=base_url, api_key=api_key, max_retries=0)
        self._url = base_url
        self._api_key = api_key

    @property
    def url(self) -> str:
        return self._url

    def complete(self, call: TeacherCall) -> CallResult:
        optional: dict[str, Any] = {} if call.seed is None else {"seed": call.seed}
        ends_at_s = self._monotonic_s() + call.timeout_s
        try:
            with self._client.chat.completions.with_streaming_response.create(
                model=call.model,
                messages=[_message(one) for one in call.messages],
                temperature=call.temperature,
                max_completion_tokens=call.max_completion_tokens,
                timeout=call.timeout_s,
                extra_headers={"X-Request-Id": call.request_id},
                **optional,
            ) as response:
                return self._read(response, call, ends_at_s=ends_at_s)
        except openai.APIStatusError as error:
            return _refused(error, detail=self._detail(error))
        except openai.APIConnectionError as error:
            return _not_answered(error)

    def _read(self, response: APIResponse[ChatCompletion], call: TeacherCall, *, ends_at_s: float) -> CallResult:
        """Read an answer until the call's deadline: the client's own timeout begins anew with every byte."""
        body = bytearray()
        try:
            for chunk in response.iter_bytes():
                body += chunk
                if self._monotonic_s() > ends_at_s:
                    return CallResult(end=CallEnd.LOST, detail=f"no whole answer within {call.timeout_s:g} s")
        except Exception as error:
            if not _is_of_the_transport(error):
                raise
            return CallResult(end=CallEnd.LOST, detail=str(error)[:_LONGEST_DETAIL] or type(error).__name__)
        return _answered(_parsed(bytes(body)), model=call.model)

    def check(self) -> None:
        try:
            self._client.models.list(timeout=_CHECK_TIMEOUT_S)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise TeacherRefused(url=self._url, status=error.status_code, detail=self._detail(error)) from None
        except openai.APIConnectionError as error:
            raise DependencyUnavailable(dependency=f"teacher {self._url}", reason=_reason(error)) from None
        except (openai.APIError, ValueError):
            # It answered: some servers do not list models, and that costs nothing.
            return

    def close(self) -> None:
        self._client.close()

    def _detail(self, error: openai.APIStatusError) -> str:
        """Return the server's message for people. Some servers repeat the key in it."""
        body = error.body
        message = body.get("message") if isinstance(body, dict) else None
        return str(message or error.message).replace(self._api_key, "<key>")[:_LONGEST_DETAIL]


def _message(one: ChatMessage) -> ChatCompletionMessageParam:
    match one.role:
        case "system":
            return {"role": "system", "content": one.content}
        case "assistant":
            return {"role": "assistant", "content": one.content}
        case _:
            return {"role": "user", "content": one.content}


def _parsed(body: bytes) -> object:
    """Read a body as loosely as the client does; None where it is no JSON object."""
    try:
        values = json.loads(body)
    except ValueError:
        return None
    return ChatCompletion.construct(**values) if isinstance(values, dict) else None


def _is_of_the_transport(error: Exception) -> bool:
    """Tell errors of the client's HTTP library, httpx or httpx2, by its name, from those of this program."""
    return type(error).__module__.partition(".")[0] in {"httpx", "httpx2", "httpcore", "httpcore2"}


def _answered(parsed: object, *, model: str) -> CallResult:
    """Read a 2xx answer. One that is cut or has another form was paid for: it has no usage, so its bound is booked."""
    if not isinstance(parsed, ChatCompletion) or not parsed.choices:
        return CallResult(end=CallEnd.ANSWERED, finish_reason="malformed", model=model)
    choice = parsed.choices[0]
    usage = parsed.usage
    return CallResult(
        end=CallEnd.ANSWERED,
        text=(choice.message.content or "") if choice.message else "",
        finish_reason=choice.finish_reason or "",
        model=parsed.model or model,
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
    )


def _refused(error: openai.APIStatusError, *, detail: str) -> CallResult:
    return CallResult(
        end=CallEnd.HTTP_ERROR,
        status=error.status_code,
        retry_after_s=_retry_after_s(error.response.headers.get("retry-after")),
        detail=detail,
    )


def _not_answered(error: openai.APIConnectionError) -> CallResult:
    never_sent = type(error.__cause__).__name__ in _BEFORE_THE_FIRST_BYTE
    return CallResult(end=CallEnd.NEVER_SENT if never_sent else CallEnd.LOST, detail=_reason(error))


def _retry_after_s(header: str | None) -> float | None:
    """Read Retry-After in seconds; its other form, a date, would need our clock to be the server's."""
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:
        return None


def _reason(error: openai.APIConnectionError) -> str:
    return str(error.__cause__ or error)[:_LONGEST_DETAIL] or type(error.__cause__ or error).__name__
