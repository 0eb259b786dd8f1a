"""Logs: one JSON event a line, a static message with fields apart (STYLE 13)."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Fields that hold what a person wrote, a model said or a key opens: for DEBUG alone.
CONFIDENTIAL_FIELDS = frozenset(
    {"answer", "api_key", "authorization", "completion", "input", "messages", "prompt", "rationale", "reply", "token"}
)


def configure_logging(*, level: int = logging.INFO, service: str, stream: TextIO | None = None) -> None:
    """Set up logging for this process. stream: standard error by default, so that standard output stays data."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _ServiceName(service),
            withhold_confidential,
            # Text without local variables: those hold prompts.
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def route_library_logs(*, level: int, service: str, stream: TextIO | None = None) -> None:
    """Have what libraries log (kafka, grpc, urllib3) written as our lines are, warnings and errors alone.

    For a process of its own: it takes over the root logger. level: of ours; theirs is never below WARNING.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _ServiceName(service),
                structlog.processors.format_exc_info,
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(sort_keys=True),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)


def level_of(name: str) -> int:
    """Return the number of `DEBUG`, `INFO`, `WARNING` or `ERROR`."""
    return logging.getLevelNamesMapping()[name]


def open_log_file(path: Path) -> TextIO:
    """Open a file for appending lines. A full disk costs lines, never the work that they tell of. Raises OSError."""
    return io.TextIOWrapper(io.BufferedWriter(_LossyFile(path, "a")), encoding="utf-8")


class _LossyFile(io.FileIO):
    """Pretends that every byte was written. What a full disk tore is ended by a line break before the next line."""

    _is_torn = False

    def write(self, data: Buffer, /) -> int:
        whole = (b"\n" if self._is_torn else b"") + bytes(data)
        written: int | None = None
        with contextlib.suppress(OSError):
            written = super().write(whole)
        if written:
            self._is_torn = written < len(whole)
        return len(memoryview(data))


class _ServiceName:
    """Adds who speaks."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = self._service
        return event


def withhold_confidential(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop confidential fields above DEBUG. A last net: callers do not pass them in the first place."""
    if method != "debug":
        for name in CONFIDENTIAL_FIELDS & event.keys():
            event[name] = "withheld"
    return event
