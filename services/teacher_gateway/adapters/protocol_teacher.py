"""The `protocol` teacher in this process: no network, no key, the same rules as its HTTP twin in `testing`."""

from __future__ import annotations

import time
from collections.abc import Callable

from baldistill.specs.runspec import ProtocolTeacherSpec
from baldistill.tasks.protocol_rules import answer_by_rules
from services.teacher_gateway.ports import CallEnd, CallResult, TeacherCall


class ProtocolTeacher:
    """TeacherClient over fixed rules."""

    def __init__(self, behaviour: ProtocolTeacherSpec, *, sleep: Callable[[float], object] = time.sleep) -> None:
        self._behaviour = behaviour
        self._sleep = sleep

    @property
    def url(self) -> str:
        return "protocol (in process)"

    def complete(self, call: TeacherCall) -> CallResult:
        if self._behaviour.latency_s:
            self._sleep(self._behaviour.latency_s)
        answer = answer_by_rules(
            call.messages,
            seed=call.seed,
            max_completion_tokens=call.max_completion_tokens,
            request_id=call.request_id,
            behaviour=self._behaviour,
        )
        if answer.status != 200:
            return CallResult(end=CallEnd.HTTP_ERROR, status=answer.status, detail="ordered by the spec")
        return CallResult(
            end=CallEnd.ANSWERED,
            text=answer.text,
            finish_reason=answer.finish_reason,
            model=call.model,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
        )

    def check(self) -> None:
        """Nothing can be away."""

    def close(self) -> None:
        """Nothing is open."""
