"""One call as the code that answers it sees it: how long it may take, and whether anybody still waits for it.

Domain code is sync, so servicers may be written as plain methods and generators. They are given a `CallContext`, which
is grpc's own `ServicerContext` over the asyncio server's; most need nothing of it, as they raise our errors.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Never

import grpc

from baldistill.errors import BalDistillError


class CallEnded(BalDistillError):
    """Nobody waits for this call any more: its deadline is over, its caller left, or the server stops."""

    def __init__(self, reason: str = "the call's deadline is over") -> None:
        super().__init__(f"{reason}; ask again with more time")


class StatusRaised(Exception):
    """A servicer set a status itself, by `context.abort`."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class CallContext(grpc.ServicerContext):
    """A call's context for sync code. Thread-safe. method: `/package.Service/Method`.   ends_in_s: None = no deadline.

    inner: what async code is given instead.
    """

    def __init__(self, context: Any, *, method: str, ends_in_s: float | None) -> None:
        self.inner = context
        self._ends_at_s = None if ends_in_s is None else time.monotonic() + ends_in_s
        self._ended = threading.Event()
        self._callbacks: list[Any] = []
        self.method = method

    def is_active(self) -> bool:
        """Tell whether somebody still waits. A stream that does not end by itself asks this about once a second."""
        return not self._ended.is_set() and (self._ends_at_s is None or time.monotonic() < self._ends_at_s)

    def time_remaining(self) -> float | None:  # type: ignore[override]
        """Return the seconds until the deadline; None without one."""
        return None if self._ends_at_s is None else max(0.0, self._ends_at_s - time.monotonic())

    def wait(self, *, timeout_s: float) -> bool:
        """Sleep for `timeout_s` seconds or until nobody waits any more. Returns whether somebody still does."""
        remaining_s = self.time_remaining()
        self._ended.wait(timeout_s if remaining_s is None else min(timeout_s, remaining_s))
        return self.is_active()

    def end(self) -> None:
        """Tell whoever works on the call that nobody waits any more."""
        self._ended.set()
        for callback in self._callbacks:
            callback()

    def cancel(self) -> bool:
        self.end()
        return True

    def add_callback(self, callback: Any) -> bool:
        """Have `callback` called when the call ends before its answer."""
        if self._ended.is_set():
            return False
        self._callbacks.append(callback)
        return True

    def abort(self, code: grpc.StatusCode, details: str) -> Never:
        raise StatusRaised(code, details)

    def abort_with_status(self, status: grpc.Status) -> Never:
        raise StatusRaised(status.code, status.details)

    def invocation_metadata(self) -> Any:
        return self.inner.invocation_metadata()

    def peer(self) -> str:
        return str(self.inner.peer())

    def peer_identities(self) -> Any:
        return self.inner.peer_identities()

    def peer_identity_key(self) -> Any:
        return self.inner.peer_identity_key()

    def auth_context(self) -> Mapping[str, Any]:
        auth_context: Mapping[str, Any] = self.inner.auth_context()
        return auth_context

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self.inner.set_trailing_metadata(trailing_metadata)

    def send_initial_metadata(self, initial_metadata: Any) -> Never:
        raise NotImplementedError("initial metadata cannot be sent from sync code; send trailing metadata")

    def set_code(self, code: grpc.StatusCode) -> None:
        self.inner.set_code(code)

    def set_details(self, details: str) -> None:
        self.inner.set_details(details)


_CALL: ContextVar[CallContext | None] = ContextVar("baldistill_call", default=None)


@contextmanager
def working_on(call: CallContext) -> Iterator[None]:
    """Let `require_time_left` know the call of this block."""
    token = _CALL.set(call)
    try:
        yield
    finally:
        _CALL.reset(token)


def require_time_left() -> None:
    """Go on only while somebody waits for the call at hand; outside of calls always. Raises CallEnded.

    Ask it before a change: an expired call then changes nothing, although its thread cannot be interrupted.
    """
    call = _CALL.get()
    if call is not None and not call.is_active():
        raise CallEnded
