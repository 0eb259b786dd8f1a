"""A job's process without student compute, for tests of launchers: `run_id` says what becomes of it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

from baldistill.errors import DependencyUnavailable, PermanentError
from baldistill.jobs.process_main import run_job_process
from baldistill.runtime.launching import Job, JobStopped, ShouldStop, VerdictOnData
from baldistill.runtime.progress import ProgressSink, ProgressSource

_STEPS = 3000


def work(job: Job, should_stop: ShouldStop, progress: ProgressSource) -> None:
    """Do what the job's run id says; `long`: steps of 10 ms, for 30 s."""
    if job.run_id == "long":
        _take_long(progress(job), should_stop)
    elif job.run_id in _ENDS:
        _ENDS[job.run_id]()
    elif job.run_id in _ERRORS:
        raise _ERRORS[job.run_id]
    else:
        os.write(1, b"printed by a library\n")
        progress(job)(step="train", done=1, total=1, unit="steps")


def _take_long(sink: ProgressSink, should_stop: ShouldStop) -> None:
    os.write(2, f"pid {os.getpid()}\n".encode())
    for step in range(_STEPS):
        sink(step="train", done=step, total=_STEPS, unit="steps")
        if should_stop():
            raise JobStopped
        time.sleep(0.01)


def _exit() -> None:
    os.write(2, b"the last words\n")
    os._exit(3)


_ERRORS: Mapping[str, Exception] = {
    "verdict": VerdictOnData("no row to train on"),
    "unavailable": DependencyUnavailable(dependency="store", reason="away"),
    "permanent": PermanentError("an artifact is missing"),
    "unexpected": ZeroDivisionError(),
}
_ENDS: Mapping[str, Callable[[], None]] = {
    "exits": _exit,
    "aborts": lambda: os.kill(os.getpid(), signal.SIGABRT),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
}

if __name__ == "__main__":
    sys.exit(run_job_process(sys.argv[1:], work))
