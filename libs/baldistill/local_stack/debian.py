"""Packages of the distribution: installed where we may, else asked for in one line."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from baldistill.local_stack.server_process import ServerMissing

_LOCK = Path(tempfile.gettempdir()) / "baldistill-apt.lock"
_TIMEOUT_S = 600


def install_package(package: str, *, wanted_for: str) -> None:
    """Install a Debian package, as root on Debian. Two processes may ask at once. Raises ServerMissing."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ServerMissing(
            f"{wanted_for} is not installed; run `apt-get install {package}` as root, or your system's like"
        )
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (
            ["apt-get", "update", "-q"],
            [
                "apt-get",
                "install",
                "-q",
                "-y",
                "--no-install-recommends",
                "-o",
                "Dpkg::Options::=--force-confold",
                package,
            ],
        ):
            done = subprocess.run(  # noqa: S603  (our own commands)
                command, check=False, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S
            )
            if done.returncode != 0:
                said = (done.stderr.strip() or done.stdout.strip() or "nothing was said").splitlines()[-1]
                raise ServerMissing(f"{wanted_for} could not be installed: `{' '.join(command)}` failed: {said}")
