"""Whether two mathematical results are equal, asked of a worker process that is killed where it takes too long."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Self

from baldistill.errors import DependencyUnavailable

# Importing sympy takes two seconds on an idle machine; a busy one must not be taken for a broken one.
_LONGEST_START_S = 120.0
# A worker that is stuck does not see that its parent is gone. PDEATHSIG is no help: it comes with the end of the *thread*.
_LONGEST_ORPHANED_S = 1.0


class ComparisonTimedOut(Exception):
    """The worker did not answer within its limit, or died of the question (memory); it was killed."""


class MathWorker:
    """Asks one worker process, started at the first question, restarted after each that it did not survive.

    Threads: one question at a time, others wait. `close` ends the process; without its parent it ends by itself, at the
    latest a second after its question's time is over.
    """

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def are_equal(self, truth: str, answer: str) -> bool:
        """Tell whether an answer equals the true result. Not symmetric: a true `5` takes `x = 5` for an answer.

        Raises ComparisonTimedOut, DependencyUnavailable where no worker can be started.
        """
        with self._lock:
            process = self._process or self._started()
            try:
                question = json.dumps([truth, answer]) + "\n"
                return json.loads(_ask(process, question.encode(), timeout_s=self._timeout_s)) is True
            except (TimeoutError, OSError, ValueError):
                self._kill()
                raise ComparisonTimedOut from None

    def close(self) -> None:
        """End the process. Idempotent; a question after it starts another."""
        with self._lock:
            self._kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        self._process = process = subprocess.Popen(  # noqa: S603  (our own module)
            [sys.executable, "-m", "baldistill.tasks.math_worker", str(self._timeout_s + _LONGEST_ORPHANED_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        try:
            _ask(process, b"", timeout_s=_LONGEST_START_S)
        except (TimeoutError, OSError) as error:
            self._kill()
            raise DependencyUnavailable(dependency="math worker", reason=f"did not start: {error}") from error
        return process

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _ask(process: subprocess.Popen[bytes], question: bytes, *, timeout_s: float) -> bytes:
    """Send a line and return the line that comes back. Raises TimeoutError, BrokenPipeError where the process ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(question)
    process.stdin.flush()
    give_up_at = time.monotonic() + timeout_s
    reply = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not reply.endswith(b"\n"):
            if not selector.select(timeout=max(0.0, give_up_at - time.monotonic())):
                raise TimeoutError(f"no answer within {timeout_s:g} s")
            part = os.read(process.stdout.fileno(), 65536)
            if not part:
                raise BrokenPipeError("the process ended")
            reply += part
    return reply
