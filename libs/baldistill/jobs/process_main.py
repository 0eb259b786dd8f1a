"""The other side of `process_work`: what a job's process does first and last, whatever its work is (ADR 20)."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import TypeAlias

import structlog

from baldistill.errors import DependencyUnavailable, InvalidInput, RetryableError, StorageFull
from baldistill.runtime.launching import Job, JobDisrupted, JobStopped, ShouldStop, VerdictOnData
from baldistill.runtime.progress import ProgressSink, ProgressSource, StageWork

# prctl(2).
_PR_SET_PDEATHSIG = 1
_PROGRESS_EVERY_S = 0.5

EXIT_CODES = {"done": 0, "stopped": 75, "verdict": 65, "unavailable": 69, "retryable": 75, "permanent": 70}

ProcessJobWork: TypeAlias = Callable[[Job, ShouldStop, ProgressSource], None]

_log = structlog.get_logger(__name__)


def run_job_process(arguments: Sequence[str], work: ProcessJobWork) -> int:
    """Do the job that the arguments carry, and return the exit code.

    Dies with its parent, however that dies. SIGTERM: the work is asked to stop. Standard output belongs to the parent:
    what else is printed goes to standard error.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--job", type=Job.from_json, required=True)
    options = parser.parse_args(arguments)
    die_with(options.parent)
    stop = threading.Event()

    def on_sigterm(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_sigterm)
    told = _ParentPipe()
    try:
        work(options.job, stop.is_set, told.progress)
        ended: Mapping[str, str] = {"how": "done"}
    # The parent judges; what is unexpected goes to the log with its traceback.
    except Exception as error:  # noqa: BLE001
        ended = how_it_ended(error)
        if ended["how"] in {"permanent", "retryable"}:
            _log.error("job failed", job=options.job.name, error=type(error).__name__, exc_info=error)
    told.say_last(ended)
    return EXIT_CODES[ended["how"]]


def die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; end now where that has happened already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        os._exit(1)


def how_it_ended(error: Exception) -> Mapping[str, str]:
    """Return what a job's end is to whoever launched it: how, and of what error."""
    about = {"error": type(error).__name__, "reason": str(error)}
    if isinstance(error, (JobStopped, JobDisrupted)):
        return {"how": "stopped"}
    if isinstance(error, DependencyUnavailable):
        return {"how": "unavailable", "dependency": error.dependency, "reason": error.reason}
    if isinstance(error, StorageFull):
        return {"how": "unavailable", "dependency": "storage", "reason": str(error)}
    if isinstance(error, (VerdictOnData, InvalidInput)):
        return {"how": "verdict", **about}
    return {"how": "retryable" if isinstance(error, RetryableError) else "permanent", **about}


class _ParentPipe:
    """Standard output as a line to the parent. Progress is dropped where the parent does not read; never waits for it."""

    def __init__(self) -> None:
        self._descriptor = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        os.set_blocking(self._descriptor, False)
        self._last_s: dict[str, float] = {}

    def progress(self, _work: StageWork, /) -> ProgressSink:
        def sink(*, step: str, done: int, total: int, unit: str) -> None:
            now_s = time.monotonic()
            if done < total and now_s - self._last_s.get(step, -_PROGRESS_EVERY_S) < _PROGRESS_EVERY_S:
                return
            self._last_s[step] = now_s
            with contextlib.suppress(OSError):
                self._write({"progress": {"step": step, "done": done, "total": total, "unit": unit}})

        return sink

    def say_last(self, ended: Mapping[str, str]) -> None:
        """Tell how it ended; a parent that is gone hears nothing."""
        os.set_blocking(self._descriptor, True)
        with contextlib.suppress(OSError):
            self._write(ended)

    def _write(self, said: Mapping[str, object]) -> None:
        # Shorter than PIPE_BUF for progress: written whole or not at all.
        os.write(self._descriptor, (json.dumps(said) + "\n").encode())
