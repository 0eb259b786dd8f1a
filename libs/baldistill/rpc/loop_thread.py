"""A server's event loop in a thread of its own: the rest of a process is threads and sync code (DESIGN 4)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

# What a loop still does when it is told to end takes milliseconds.
_LOOP_END_S = 5.0


class LoopThread:
    """Runs one server's life. Thread-safe, but for what is said to be for the loop.

    live: opens the server in the loop, awaits `listening`, and closes what it opened.   on_failure: told if the loop dies.
    """

    def __init__(
        self,
        live: Callable[[], Coroutine[Any, Any, None]],
        *,
        name: str,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._live = live
        self._on_failure = on_failure
        self._bound: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def port(self) -> int:
        """The port that the server listens on, once it is started."""
        return self._bound.result(timeout=0)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop. For what runs in it."""
        return self._loop

    def start(self) -> None:
        """Start, and return when the server listens. Raises what its opening raised."""
        self._thread.start()
        self._bound.result()

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Have the loop do something and wait for it; nothing where it has ended."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(work, self._loop).result()
        else:
            work.close()

    def join(self) -> None:
        """Wait for the thread, once the server's life was told to end."""
        self._thread.join(_LOOP_END_S)

    async def listening(self, port: int) -> None:
        """Say that the server listens, and wait until its life is to end. For `live`."""
        self._bound.set_result(port)
        await self._ended.wait()

    def end(self) -> None:
        """Let the server's life end. For the loop."""
        self._ended.set()

    def _run(self) -> None:
        try:
            asyncio.run(self._run_loop())
        # Whatever ends the loop ends the process: nobody would be answered any more.
        except BaseException as error:  # noqa: BLE001
            if not self._bound.done():
                self._bound.set_exception(error)
            elif self._on_failure is not None:
                self._on_failure(error)

    async def _run_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        await self._live()
