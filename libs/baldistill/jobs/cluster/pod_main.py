"""The other side of `ClusterWork`: what a job's pod does first and last, whatever its work is (ADR 45)."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TypeAlias

import structlog

from baldistill.jobs.process_main import EXIT_CODES, how_it_ended
from baldistill.runtime.launching import Job, ShouldStop

# Where the kubelet reads a container's last word, and how much of it.
TERMINATION_LOG = Path("/dev/termination-log")
_LONGEST_WORD_BYTES = 4096
_LONGEST_REASON = 1000

# Ended by SIGTERM (128 + 15), whether or not Python was up to hear it: a disruption, which the Job's policy ignores.
STOPPED = 143

PodJobWork: TypeAlias = Callable[[Job, ShouldStop], None]

_log = structlog.get_logger(__name__)


def run_job_pod(arguments: Sequence[str], work: PodJobWork, *, last_word: Path = TERMINATION_LOG) -> int:
    """Do the job that the arguments carry, leave the last word, and return the exit code. SIGTERM: it saves and ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", type=Job.from_json, required=True)
    job: Job = parser.parse_args(arguments).job
    stop = threading.Event()

    def on_sigterm(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        work(job, stop.is_set)
        ended: Mapping[str, str] = {"how": "done"}
    # The launcher judges; what is unexpected goes to the log with its traceback.
    except Exception as error:  # noqa: BLE001
        ended = how_it_ended(error)
        if ended["how"] in {"permanent", "retryable"}:
            _log.error("job failed", job=job.name, error=type(error).__name__, exc_info=error)
    _leave(ended, last_word)
    return STOPPED if ended["how"] == "stopped" else EXIT_CODES[ended["how"]]


def _leave(ended: Mapping[str, str], path: Path) -> None:
    word = json.dumps({**ended, **({"reason": ended["reason"][:_LONGEST_REASON]} if "reason" in ended else {})})
    try:
        path.write_bytes(word.encode()[:_LONGEST_WORD_BYTES])
    except OSError as error:
        _log.warning("the last word could not be left", path=str(path), reason=str(error))
