"""Group commit: what many callers want is done in one transaction by one thread, so that they share its cost (ADR 30).

Nothing waits for a group to fill: whatever is there when the thread is free is the next group. A lone caller's work starts
at once; under load groups grow by themselves, because callers queue while a commit is under way.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from baldistill.errors import DependencyUnavailable

# Work in one transaction: above this its rows cost more than a commit, and others wait for its locks.
_MOST_AT_ONCE = 256
# Callers that wait when the thread is this far behind are refused: they would have given up before their turn.
_LONGEST_QUEUE = 8192

Work = TypeVar("Work")


class GroupCommit(Generic[Work]):
    """Does work in groups, in the order in which it came. Thread-safe; callers may be threads or coroutines.

    do: does a group in one transaction; returns a result, or the exception to raise, for each.
    unheard: told of a result whose caller had given up waiting. Both are called by the one thread.
    """

    def __init__(
        self,
        do: Callable[[Sequence[Work]], Sequence[Any]],
        *,
        unheard: Callable[[Work, Any], None],
        patience_s: float,
        name: str,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """patience_s: how long a caller waits; while a group takes longer, all are refused at once."""
        self._do = do
        self._unheard = unheard
        self._patience_s = patience_s
        self._name = name
        self._monotonic_s = monotonic_s
        self._queue: deque[tuple[Work, Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._busy_since_s: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Work, *, refusable: bool = True) -> Any:
        """Do work in the next group and return its result. Raises what `do` says, DependencyUnavailable."""
        future = self._submit(work, refusable=refusable)
        try:
            return future.result(timeout=self._patience_s)
        except TimeoutError:
            # Not cancelled: the result came this very moment.
            if not future.cancel():
                return future.result()
            raise self._too_slow() from None

    async def call_async(self, work: Work, *, refusable: bool = True) -> Any:
        """As `call`, for coroutines. A caller that is cancelled is one that gave up waiting."""
        future = self._submit(work, refusable=refusable)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), timeout=self._patience_s)
        except TimeoutError:
            if not future.cancel():
                return future.result()
            raise self._too_slow() from None
        except asyncio.CancelledError:
            if not future.cancel() and future.exception() is None:
                self._unheard(work, future.result())
            raise

    def close(self) -> None:
        """Do what is queued, then end the thread. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _submit(self, work: Work, *, refusable: bool) -> Future[Any]:
        future: Future[Any] = Future()
        with self._changed:
            if self._closing:
                raise DependencyUnavailable(dependency=self._name, reason="this process has closed it")
            self._refuse_if_stuck()
            if refusable and len(self._queue) >= _LONGEST_QUEUE:
                raise DependencyUnavailable(dependency=self._name, reason=f"{_LONGEST_QUEUE} calls wait for it already")
            self._queue.append((work, future))
            self._changed.notify()
        return future

    def _refuse_if_stuck(self) -> None:
        since_s = self._busy_since_s
        if since_s is not None and self._monotonic_s() - since_s > self._patience_s:
            raise self._too_slow()

    def _too_slow(self) -> DependencyUnavailable:
        return DependencyUnavailable(
            dependency=self._name, reason=f"its database gave no answer in {self._patience_s:g} s"
        )

    def _run(self) -> None:
        while group := self._next_group():
            self._busy_since_s = self._monotonic_s()
            try:
                results = self._do([work for work, _ in group])
            # Whatever it is, callers wait for an answer, and those after them for this thread.
            except BaseException as error:  # noqa: BLE001
                results = [error] * len(group)
            self._busy_since_s = None
            for (work, future), result in zip(group, results, strict=True):
                self._answer(work, future, result)

    def _next_group(self) -> list[tuple[Work, Future[Any]]]:
        """Wait for work; empty at the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                taken = [self._queue.popleft() for _ in range(min(_MOST_AT_ONCE, len(self._queue)))]
            # Of those who gave up before their turn nothing is done.
            if (group := [one for one in taken if not one[1].cancelled()]) or not taken:
                return group

    def _answer(self, work: Work, future: Future[Any], result: Any) -> None:
        if future.set_running_or_notify_cancel():
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
        elif not isinstance(result, BaseException):
            self._unheard(work, result)
