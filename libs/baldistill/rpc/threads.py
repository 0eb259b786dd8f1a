"""Sync servicers in threads: their number bounded, their context the call's, their end noticed."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from baldistill.errors import LimitReached
from baldistill.rpc.calls import CallContext, CallEnded
from baldistill.rpc.limits import ServerLimits

_T = TypeVar("_T")
_END = object()


class CallThreads:
    """Runs sync code for calls. Streams have threads of their own, so that watchers never keep others waiting."""

    def __init__(self, limits: ServerLimits) -> None:
        self._calls = ThreadPoolExecutor(limits.threads, thread_name_prefix="rpc")
        self._streams = ThreadPoolExecutor(limits.streams, thread_name_prefix="rpc-stream")
        self._most_streams = limits.streams
        self._open_streams = 0

    async def run(self, work: Callable[[], _T], *, call: CallContext) -> _T:
        """Return what `work` returns, run in a thread where somebody still waits by then. Raises CallEnded."""
        return await asyncio.wrap_future(_submit(self._calls, work, call=call, context=contextvars.copy_context()))

    async def iterate(self, make: Callable[[], Iterator[_T]], *, call: CallContext) -> AsyncGenerator[_T, None]:
        """Yield what a generator yields; it is closed when nobody waits any more. Raises LimitReached, CallEnded."""
        if self._open_streams >= self._most_streams:
            raise LimitReached(f"{self._most_streams} streams are open, no more are served; try again later")
        self._open_streams += 1
        generator = make()
        context = contextvars.copy_context()
        pending: Future[Any] | None = None
        try:
            while True:
                pending = _submit(self._streams, lambda: next(generator, _END), call=call, context=context)
                response = await asyncio.wrap_future(pending)
                if response is _END:
                    if not call.is_active():
                        raise CallEnded
                    return
                yield response
        finally:
            self._open_streams -= 1
            call.end()
            if pending is not None and isinstance(generator, Generator):
                # It may be in the middle of a step, in its thread, and its end may take time.
                close = partial(_close, self._streams, context, generator)
                pending.add_done_callback(close)

    def close(self) -> None:
        """Let go of the threads; those at work end by themselves."""
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._streams.shutdown(wait=False, cancel_futures=True)


def _submit(
    pool: ThreadPoolExecutor, work: Callable[[], _T], *, call: CallContext, context: contextvars.Context
) -> Future[_T]:
    def guarded() -> _T:
        # It may have waited for a thread for longer than its caller waits for it: then nothing is begun.
        if not call.is_active():
            raise CallEnded
        return context.run(work)

    return pool.submit(guarded)


def _close(
    pool: ThreadPoolExecutor,
    context: contextvars.Context,
    generator: Generator[Any, None, None],
    _done: Future[Any],
) -> None:
    # A pool that is shut down takes no more; then the process ends, and the generator with it.
    with contextlib.suppress(RuntimeError):
        pool.submit(context.run, generator.close)
