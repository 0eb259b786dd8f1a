"""What all parts of the local stack need when they are brought to a machine: a folder, one process at a time, words."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
