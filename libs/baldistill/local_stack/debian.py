"""Packages of the distribution: installed where we may, else asked for in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from baldistill.local_stack.installing import one_at_a_time, run_persistently, tell
from baldistill.local_stack.server_process import ServerMissing

_LOCK = Path(tempfile.gettempdir()) / "baldistill-apt.lock"
_TIMEOUT_S = 600

_Found = TypeVar("_Found")


def find_or_install(package: str, *, wanted_for: str, find: Callable[[], _Found | None]) -> _Found:
    """Return what `find` finds, once the package is installed where it found nothing. Raises ServerMissing.

    Any number of processes may ask at once: one installs, and no other sees a package that is half there.
    """
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        if (found := find()) is None:
            raise ServerMissing(
                f"{wanted_for} is not installed; run `apt-get install {package}` as root, or your system's like"
            )
        return found
    with one_at_a_time(_LOCK, what=wanted_for):
        if (found := find()) is None:
            tell(f"Installing {wanted_for} (apt-get install {package}), once.")
            _install(package, wanted_for=wanted_for)
            found = find()
    if found is None:
        raise ServerMissing(f"{wanted_for} was installed, but its programs are not where Debian's package has them")
    return found


def _install(package: str, *, wanted_for: str) -> None:
    install = [
        *("apt-get", "install", "-q", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"),
        package,
    ]
    # Lists that are there may be good enough; an update asks every source that the machine knows.
    if _said_by(install, wanted_for=wanted_for, tries=1) is None:
        return
    for command in (["apt-get", "update", "-q"], install):
        if (said := _said_by(command, wanted_for=wanted_for, tries=3)) is not None:
            raise ServerMissing(f"{wanted_for} could not be installed: `{' '.join(command)}` failed: {said}")


def _said_by(command: Sequence[str], *, wanted_for: str, tries: int) -> str | None:
    """Run a command; return None where it succeeded, else the last line that it said."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = run_persistently(
            command, what=wanted_for, timeout_s=_TIMEOUT_S, tries=tries, env=environment, capture_output=True
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {_TIMEOUT_S} s"
    if done.returncode == 0:
        return None
    return (done.stderr.strip() or done.stdout.strip() or "nothing was said").splitlines()[-1]
