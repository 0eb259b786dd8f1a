"""The command line's entry: one line for every error, exit codes as documented."""

from __future__ import annotations

import os
import sys

_EXIT_INTERRUPTED = 130
_STOPPED = "Stopped. Nothing that was paid for is lost: run the same command again to go on."


def main() -> None:
    """Run the command line and exit. Exit codes: docs/reference/exit-codes.md."""
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        # Before the commands were imported, which takes a second, or while one was being left.
        sys.stderr.write(f"{_STOPPED}\n")
        code = _EXIT_INTERRUPTED
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    # Deferred, so that Ctrl-C finds `main` ready for it.
    from baldistill.errors import BalDistillError
    from baldistill.runtime.thread_waits import with_short_waits
    from services.cli.app import app
    from services.cli.logs import log_errors_only
    from services.cli.output import MESSAGES

    os.environ.update(with_short_waits(os.environ))
    log_errors_only()
    try:
        app(arguments, prog_name="baldistill")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
        if code == _EXIT_INTERRUPTED:
            MESSAGES.print(_STOPPED, soft_wrap=True)
        return code
    except BalDistillError as error:
        MESSAGES.print(f"error: {error}", markup=False, soft_wrap=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    main()
