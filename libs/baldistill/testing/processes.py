"""Processes of their own for tests that stop, kill and outlive them: any Python module, and the protocol teacher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# Far beyond what anything here takes; what hangs for so long is a failure.
_LONGEST_WAIT_S = 300.0
_POLL_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process ended and what it printed. code: negative where a signal ended it."""

    code: int
    out: str
    err: str


class ModuleProcess:
    """`python -m module arguments` in a session of its own. Use it in a `with` block: at its end nothing is left."""

    def __init__(self, module: str, *arguments: str, folder: Path, environment: Mapping[str, str]) -> None:
        """folder: where its output, scratch files, caches and settings go; made where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(  # noqa: S603  (our own modules)
                # A shell starts its background jobs with Ctrl-C ignored, and that is inherited.
                ["/usr/bin/env", "--default-signal=INT", sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=_environment(folder) | dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._out.read_text()

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self, *, timeout_s: float = _LONGEST_WAIT_S) -> Ended:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        code = self._process.wait(timeout=timeout_s)
        return Ended(code=code, out=self._out.read_text(), err=self._err.read_text())

    def wait_until(self, reached: Callable[[], bool], *, timeout_s: float = _LONGEST_WAIT_S) -> None:
        """Wait until `reached` while it runs. Raises AssertionError where it ends before."""
        give_up_at = time.monotonic() + timeout_s
        while not reached():
            if self.has_ended():
                ended = self.wait()
                raise AssertionError(f"ended with {ended.code} before the awaited moment: {ended.err}")
            if time.monotonic() > give_up_at:
                raise AssertionError(f"the awaited moment did not come in {timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it."""
        os.killpg(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Send SIGKILL, children included; returns when it is dead. Nothing where it has ended."""
        if not self.has_ended():
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class TeacherProcess:
    """The protocol teacher as a server of its own on the loopback. It can go away and come back under its URL."""

    def __init__(self, folder: Path, *, behaviour: Mapping[str, Any]) -> None:
        """behaviour: the spec's `teacher.protocol`."""
        self._folder = folder
        self._seen = folder / "seen"
        self._behaviour = behaviour
        self._port = 0
        self._server: ModuleProcess | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._seen.touch()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def seen(self) -> list[str]:
        """Return the X-Request-Id of every request so far, in the order of arrival."""
        text = self._seen.read_text()
        return text[: text.rfind("\n") + 1].splitlines()

    def start(self) -> None:
        """Serve; returns when it listens."""
        arguments = ["--seen", str(self._seen), "--port", str(self._port), "--behaviour", json.dumps(self._behaviour)]
        server = ModuleProcess("baldistill.testing.protocol_server", *arguments, folder=self._folder, environment={})
        self._server = server
        server.wait_until(lambda: server.out.startswith("listening on ") and server.out.endswith("\n"))
        self._port = int(server.out.removesuffix("/v1\n").rpartition(":")[2])

    def stop(self) -> None:
        """Go away in the middle of whatever is asked. Idempotent."""
        if self._server is not None:
            self._server.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _environment(folder: Path) -> dict[str, str]:
    """Return our environment without proxies, with every folder that programs write to below `folder`."""
    kept = {name: value for name, value in os.environ.items() if not _is_foreign(name)}
    own = {}
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR"):
        path = folder / name.lower()
        path.mkdir(exist_ok=True)
        own[name] = str(path)
    # Whole sentences on one line each, as tests look for them.
    return kept | own | {"COLUMNS": "250"}


def _is_foreign(name: str) -> bool:
    return name.lower().endswith("_proxy") or name.startswith("BALDISTILL_")
