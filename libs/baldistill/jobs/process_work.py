"""A job's work in a process of its own: started, heard, stopped; it never outlives who started it (ADR 20)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import structlog

from baldistill.errors import DependencyUnavailable, PermanentError, RetryableError
from baldistill.runtime.launching import Job, JobDisrupted, JobStopped, ShouldStop, VerdictOnData
from baldistill.runtime.progress import ProgressSource
from baldistill.runtime.thread_waits import with_short_waits

# How soon a stop is passed on; the process itself notices it at its next step.
_POLL_S = 0.2
# A training step and the checkpoint after it. Longer: a machine that hangs.
_GRACE_S = 20.0
_LOG_TAIL_LINES = 15

# Sent from outside: by a person, a node that ends, the kernel that is out of memory.
_DISRUPTIONS = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

# How a job ended, by gravity: where several processes did it, each has a last word.
_GRAVITY = ("done", "stopped", "retryable", "unavailable", "permanent", "verdict")

_log = structlog.get_logger(__name__)


class JobCrashed(RetryableError):
    """A job's process ended without saying how."""

    def __init__(self, *, code: int, log: Path) -> None:
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        super().__init__(f"the job's process ended {how}; its log: {log}\n{_tail(log)}")
        self.code = code
        self.log = log


class JobGaveUp(PermanentError):
    """A job's process ended with an error that trying again does not change. error: its class name."""

    def __init__(self, *, error: str, reason: str) -> None:
        super().__init__(f"{error}: {reason}")
        self.error = error


class JobFailing(RetryableError):
    """A job's process ended with an error that may pass."""


class ProcessWork:
    """A JobWork that runs `python -m <module> --parent <pid> --job <json>` and waits for its end.

    The module calls `jobs.process_main`. folder: of the processes' logs.   environment: replaces variables of ours.
    is_done: spares a process where the job's last artifact is there.
    """

    def __init__(
        self,
        *,
        module: str,
        folder: Path,
        progress: ProgressSource,
        is_done: Callable[[Job], bool] = lambda _job: False,
        environment: Mapping[str, str] | None = None,
        grace_s: float = _GRACE_S,
    ) -> None:
        self._module = module
        self._folder = folder
        self._progress = progress
        self._is_done = is_done
        self._environment = dict(environment or {})
        self._grace_s = grace_s

    def __call__(self, job: Job, should_stop: ShouldStop) -> None:
        """Do a job. Raises JobStopped, VerdictOnData, JobGaveUp, JobFailing, JobCrashed, JobDisrupted, DependencyUnavailable."""
        if self._is_done(job):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / f"{job.tenant}-{job.name}.log"
        with log.open("ab") as log_file:
            process = self._start(job, log_file)
        _log.info("job process started", job=job.name, run_id=job.run_id, pid=process.pid)
        heard = _Heard(process, job=job, progress=self._progress)
        try:
            stopped = self._wait(process, should_stop)
        finally:
            _end_now(process)
            ended = heard.ended()
        _log.info("job process ended", job=job.name, run_id=job.run_id, pid=process.pid, code=process.returncode)
        _raise_for(ended, code=process.returncode, stopped=stopped, log=log)

    def _start(self, job: Job, log_file: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = with_short_waits(os.environ | self._environment)
        return subprocess.Popen(  # noqa: S603  (our own module)
            [sys.executable, "-m", self._module, "--parent", str(os.getpid()), "--job", job.to_json()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log_file,
            env=environment,
            start_new_session=True,
        )

    def _wait(self, process: subprocess.Popen[bytes], should_stop: ShouldStop) -> bool:
        """Wait for the end; tell whether it was asked to end. `should_stop` may raise: then it is not asked."""
        kill_at_s: float | None = None
        while True:
            try:
                process.wait(timeout=_POLL_S)
            except subprocess.TimeoutExpired:
                if kill_at_s is None and should_stop():
                    process.send_signal(signal.SIGTERM)
                    kill_at_s = time.monotonic() + self._grace_s
                elif kill_at_s is not None and time.monotonic() > kill_at_s:
                    return True
            else:
                return kill_at_s is not None


class _Heard:
    """Reads what a job's process says: progress, and in the end how it ended."""

    def __init__(self, process: subprocess.Popen[bytes], *, job: Job, progress: ProgressSource) -> None:
        assert process.stdout is not None
        self._lines = process.stdout
        self._sink = progress(job)
        self._ended: Mapping[str, Any] | None = None
        self._thread = threading.Thread(target=self._read, name=f"{job.name}-output", daemon=True)
        self._thread.start()

    def ended(self) -> Mapping[str, Any] | None:
        """Return the last word of a process that is dead, of several the gravest; None where it said none."""
        self._thread.join()
        self._lines.close()
        return self._ended

    def _read(self) -> None:
        for line in self._lines:
            try:
                said = json.loads(line)
            except ValueError:
                # Cut off by its death.
                continue
            if "progress" in said:
                self._sink(**said["progress"])
            elif self._ended is None or _GRAVITY.index(said["how"]) > _GRAVITY.index(self._ended["how"]):
                self._ended = said


def is_disruption(code: int) -> bool:
    """Tell whether a process's exit code, negative for a signal, says that something outside ended it."""
    return code < 0 and -code in _DISRUPTIONS


def _end_now(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and its own children; nothing where it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _raise_for(ended: Mapping[str, Any] | None, *, code: int, stopped: bool, log: Path) -> None:
    if ended is None:
        if stopped:
            raise JobStopped
        if is_disruption(code):
            raise JobDisrupted(f"the job's process was ended by {signal.Signals(-code).name}")
        raise JobCrashed(code=code, log=log)
    match ended["how"]:
        case "done":
            return
        case "stopped" if stopped:
            raise JobStopped
        case "stopped":
            raise JobDisrupted("the job's process was asked to end by somebody else")
        case "verdict":
            raise VerdictOnData(ended["reason"])
        case "unavailable":
            raise DependencyUnavailable(dependency=ended["dependency"], reason=ended["reason"])
        case "retryable":
            raise JobFailing(f"{ended['error']}: {ended['reason']}")
        case _:
            raise JobGaveUp(error=ended["error"], reason=ended["reason"])


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_LOG_TAIL_LINES:])
