"""Where the command line's logs go: to a file of the run; on the terminal only errors that end a command."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from baldistill.artifacts.scratch import storage_full
from baldistill.errors import InvalidInput
from baldistill.telemetry.logs import configure_logging, open_log_file


def log_errors_only() -> None:
    """For commands that do no long work: what they have to say is their output."""
    configure_logging(service="cli", level=logging.CRITICAL)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Append this process's logs to a file, one JSON event a line.

    Raises StorageFull, InvalidInput where it cannot be opened.
    """
    try:
        with storage_full(path):
            stream = open_log_file(path)
    except OSError as error:
        raise InvalidInput(f"cannot be written: {error.strerror}", path=path) from error
    with stream:
        configure_logging(service="embedded", stream=stream)
        try:
            yield
        finally:
            log_errors_only()
