"""Student compute in a thread that ends with it (ADR 56)."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_Result = TypeVar("_Result")


def in_own_thread(work: Callable[[], _Result]) -> _Result:
    """Return what `work` returns, or raise what it raises, once the thread that did it has ended.

    Each thread that computes in parallel keeps helpers of its own (libgomp's), waiting for more. Where all threads' helpers
    together are more than the cores, none of them waits awake any more, and every thread computes as slowly as they wake up.
    """
    outcome: Future[_Result] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome.set_result(context.run(work))
        # Raised again below, where it is expected.
        except BaseException as error:  # noqa: BLE001
            outcome.set_exception(error)

    # A daemon, as those that wait for it are: a process that ends does not wait for its students.
    thread = threading.Thread(target=run, name="student-compute", daemon=True)
    thread.start()
    thread.join()
    return outcome.result()
