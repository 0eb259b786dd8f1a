"""What all parts of the local stack need when they are brought to a machine: a folder, one process at a time, words."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    wait_chain,
    wait_fixed,
)

# Registries fail or hang for moments; Go, Maven and apt keep what they had brought or built before.
_PAUSES_S = (5.0, 30.0)


def cache_folder() -> Path:
    """Return where what was fetched or built is kept: BALDISTILL_CACHE, else `~/.cache/baldistill`."""
    return Path(os.environ.get("BALDISTILL_CACHE") or Path.home() / ".cache" / "baldistill")


def tell(text: str) -> None:
    """Tell whoever waits what takes so long. Not a log line: a person at a terminal reads it."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def one_at_a_time(lock: Path, *, what: str) -> Iterator[None]:
    """Have only one process of this machine in the block. what: named to those who wait, e.g. `MinIO`."""
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"Waiting for another process that installs {what}.")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def run_persistently(
    command: Sequence[str], *, what: str, timeout_s: float, tries: int = 3, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command that asks a registry; where it fails or hangs, run it again. Return the last end.

    what: named to those who wait.   timeout_s: of one run.   tries: at most.   options: as of `subprocess.run`. Raises TimeoutExpired where
    the last one did not end in time.
    """

    def say(state: RetryCallState) -> None:
        pause_s = state.next_action.sleep if state.next_action is not None else 0.0
        tell(f"{what}: `{' '.join(command[:2])}` failed; again in {pause_s:.0f} s.")

    attempts: Retrying = Retrying(
        stop=stop_after_attempt(tries),
        wait=wait_chain(*map(wait_fixed, _PAUSES_S)),
        retry=retry_if_result(_failed) | retry_if_exception_type(subprocess.TimeoutExpired),
        before_sleep=say,
        retry_error_callback=_last_end,
    )
    ended: subprocess.CompletedProcess[str] = attempts(
        subprocess.run, command, stdin=subprocess.DEVNULL, text=True, timeout=timeout_s, check=False, **options
    )
    return ended


def _failed(ended: subprocess.CompletedProcess[str]) -> bool:
    return ended.returncode != 0


def _last_end(state: RetryCallState) -> Any:
    return state.outcome.result() if state.outcome is not None else None
