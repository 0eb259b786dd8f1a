"""Generator over a process of its own: the trainer itself loads no student."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any

from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import DependencyUnavailable, NotAllowedNow
from baldistill.runtime.thread_waits import with_short_waits
from services.trainer.ports import Generated

# torch's import and a student's load on a busy machine, and then the answers.
_LONGEST_S = 55.0
# A caller gives up after the time above and may ask again; a process that is silent for so long hangs, and is ended.
_HANGS_S = 300.0
_END_S = 5.0


class ProcessGenerator:
    """Asks `python -m <module>` over its standard input and output, one request at a time.

    The process starts with the first request, and again with the first after its death. Thread-safe.
    """

    def __init__(
        self,
        *,
        module: str,
        log: Path,
        environment: Mapping[str, str] | None = None,
        longest_s: float = _LONGEST_S,
        hangs_s: float = _HANGS_S,
    ) -> None:
        """longest_s: what a caller waits.   hangs_s: a process that is silent for so long is ended."""
        self._module = module
        self._log = log
        self._longest_s = longest_s
        self._hangs_s = hangs_s
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[str] | None = None
        self._requests: queue.SimpleQueue[tuple[str, Future[dict[str, Any]]] | None] = queue.SimpleQueue()
        # The kernel ends the process together with the thread that started it, so one thread does nothing else.
        self._thread = threading.Thread(target=self._serve, name="generator", daemon=True)
        self._thread.start()

    def generate(self, *, spec: ArtifactRef, stage: int, texts: Sequence[str], max_new_tokens: int) -> list[Generated]:
        asked = {
            "spec": dataclasses.asdict(spec),
            "stage": stage,
            "texts": list(texts),
            "max_new_tokens": max_new_tokens,
        }
        answered: Future[dict[str, Any]] = Future()
        self._requests.put((json.dumps(asked), answered))
        try:
            said = answered.result(timeout=self._longest_s)
        except FutureTimeoutError:
            answered.cancel()
            raise _away("it is still busy; ask again") from None
        if "error" in said:
            raise NotAllowedNow(said["error"])
        return [Generated(**one) for one in said["answers"]]

    def close(self) -> None:
        self._requests.put(None)
        process = self._process
        if process is not None:
            process.kill()
        self._thread.join(_END_S)

    def _serve(self) -> None:
        while (request := self._requests.get()) is not None:
            line, answered = request
            # Whoever asked may have given up while others were answered.
            if not answered.set_running_or_notify_cancel():
                continue
            try:
                answered.set_result(self._ask(line))
            except (OSError, ValueError) as error:
                answered.set_exception(_away(f"it ended ({error}); its log: {self._log}"))
        self._end()

    def _ask(self, line: str) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Its end is what a reader of its output wakes up by.
        hangs = threading.Timer(self._hangs_s, self._process.kill)
        hangs.daemon = True
        hangs.start()
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            said: dict[str, Any] = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            # It died before it answered: the next request starts another.
            self._end()
            raise
        finally:
            hangs.cancel()
        return said

    def _start(self) -> subprocess.Popen[str]:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603  (our own module)
                [sys.executable, "-m", self._module, "--parent", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=with_short_waits(os.environ | self._environment),
                start_new_session=True,
                text=True,
            )

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self._process = None


def _away(reason: str) -> DependencyUnavailable:
    return DependencyUnavailable(dependency="generation worker", reason=reason)
