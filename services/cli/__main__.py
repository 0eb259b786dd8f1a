"""The command line's entry: one line for every error, exit codes as documented."""

from __future__ import annotations

import os
import sys

from baldistill.errors import BalDistillError
from services.cli.app import app
from services.cli.logs import log_errors_only
from services.cli.output import EXIT_INTERRUPTED, MESSAGES


def main() -> None:
    """Run the command line and exit. Exit codes: docs/reference/exit-codes.md."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    # Threads that wait for others of a parallel region sleep instead of spinning: on a busy machine spinning took up to
    # five times as long (docs/benchmarks.md). Read once, when torch loads its OpenMP runtime.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    log_errors_only()
    try:
        app(arguments, prog_name="baldistill")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
        if code == EXIT_INTERRUPTED:
            MESSAGES.print("Stopped. Nothing that was paid for is lost: run the same command again to go on.")
        return code
    except BalDistillError as error:
        MESSAGES.print(f"error: {error}", markup=False, soft_wrap=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    main()
