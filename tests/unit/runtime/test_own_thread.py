"""Work in a thread that ends with it."""

from __future__ import annotations

import contextvars
import threading

import pytest

from baldistill.runtime.own_thread import in_own_thread


def test_the_thread_has_ended_when_its_result_is_there() -> None:
    thread = in_own_thread(threading.current_thread)
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_what_the_work_raises_is_raised(kind: type[BaseException]) -> None:
    def fail() -> None:
        raise kind("no")

    with pytest.raises(kind, match="no"):
        in_own_thread(fail)


def test_the_work_sees_the_context_of_who_asked() -> None:
    variable = contextvars.ContextVar("variable", default="nothing")
    variable.set("a trace")
    assert in_own_thread(variable.get) == "a trace"
