"""The `main` of every service process: from its environment to its exit code.

def main() -> None:                                 # services/policy/__main__.py
run_process("policy", PolicySettings, compose)

def compose(settings: PolicySettings, process: Process) -> Serving: ...
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Never, TypeVar

import structlog

from baldistill.environment import load_settings
from baldistill.errors import BalDistillError
from baldistill.runtime.process import Process, Serving, Stopped
from baldistill.settings import ProcessSettings
from baldistill.telemetry.logs import configure_logging, level_of, route_library_logs

_S = TypeVar("_S", bound=ProcessSettings)

# What threads still do after everything is closed takes milliseconds.
_THREADS_END_S = 2.0

_log = structlog.get_logger(__name__)


def run_process(service: str, settings_type: type[_S], compose: Callable[[_S, Process], Serving]) -> Never:
    """Be a service process, from its settings to its exit code."""
    try:
        settings = load_settings(settings_type)
    except BalDistillError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    level = level_of(settings.telemetry.log_level)
    configure_logging(service=service, level=level)
    route_library_logs(service=service, level=level)
    try:
        process = Process(service=service, settings=settings)
    except BalDistillError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, process.on_signal)
    code = _run(process, lambda: compose(settings, process))
    _log.info("ends", code=code)
    _end(code)


def _run(process: Process, compose: Callable[[], Serving]) -> int:
    try:
        with process.stack:
            return process.serve(compose())
    except Stopped:
        return 0
    except BalDistillError as error:
        _log.error("process failed", error=type(error).__name__, reason=str(error))
        return error.exit_code
    except Exception as error:  # noqa: BLE001  (whatever it is, the log and the code tell)
        _log.error("process failed", error=type(error).__name__, exc_info=error)
        return 1


def _end(code: int) -> Never:
    """Exit, without waiting for threads that hang: the interpreter would, for ever."""
    ends_at_s = time.monotonic() + _THREADS_END_S
    while time.monotonic() < ends_at_s:
        if not any(_holds_up(thread) for thread in threading.enumerate()):
            sys.exit(code)
        time.sleep(0.02)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _holds_up(thread: threading.Thread) -> bool:
    return thread is not threading.main_thread() and not thread.daemon
