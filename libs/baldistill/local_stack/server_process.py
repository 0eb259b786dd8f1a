"""One server as a process with a folder of its own: started, stopped, killed, and started again at the same address."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from baldistill.errors import BalDistillError

_POLL_S = 0.05
_STANDS_STILL_WITHIN_S = 60.0
_LOG_TAIL_LINES = 15


class ServerMissing(BalDistillError):
    """What a server is made of is not on this machine. The message is one line that says how to get it."""

    exit_code = 69


class ServerFailed(BalDistillError):
    """A server ended or did not answer in time."""

    exit_code = 69

    def __init__(self, *, name: str, reason: str, log: Path) -> None:
        super().__init__(f"{name} {reason}; its log: {log}\n{_tail(log)}")
        self.name = name
        self.log = log


class ServerProcess:
    """A server whose data, log and process id lie in `folder`. Found again by its folder, by whoever starts next.

    command: what to run.   is_ready: asks the server itself whether it serves.   user: run as this user where we are
    root (PostgreSQL refuses root).   stop_signal: what ends it politely.
    """

    def __init__(
        self,
        *,
        name: str,
        folder: Path,
        command: Sequence[str],
        is_ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.folder = folder
        self._command = list(command)
        self._is_ready = is_ready
        self._environment = dict(environment or {})
        self._user = user
        self._stop_signal = stop_signal
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def pid(self) -> int | None:
        """Return its process id, None where it does not run."""
        try:
            pid_text, start_text = (self.folder / "pid").read_text().split()
        except (OSError, ValueError):
            return None
        pid = int(pid_text)
        # A process id is used again by others; together with the time of its start it is not.
        return pid if _start_ticks(pid) == start_text else None

    def start(self, *, timeout_s: float = 60.0, dies_with_parent: bool = False) -> None:
        """Start it where it does not run, and wait until it serves. Raises ServerFailed."""
        self.spawn(dies_with_parent=dies_with_parent)
        self.wait_until_ready(timeout_s=timeout_s)

    def spawn(self, *, dies_with_parent: bool = False) -> None:
        """Start it where it does not run; do not wait.

        dies_with_parent: for tests, that leave nothing behind however they end. It is the calling *thread* that the
        kernel takes for the parent.
        """
        if self.pid is None:
            self._spawn(dies_with_parent=dies_with_parent)

    def wait_until_ready(self, *, timeout_s: float) -> None:
        """Wait until it serves. Raises ServerFailed where it ends or does not answer in time."""
        give_up_at = time.monotonic() + timeout_s
        while not self._is_ready():
            if self.pid is None:
                raise ServerFailed(name=self.name, reason="ended while it started", log=self.log)
            if time.monotonic() > give_up_at:
                raise ServerFailed(name=self.name, reason=f"did not answer within {timeout_s:.0f} s", log=self.log)
            time.sleep(_POLL_S)

    def is_ready(self) -> bool:
        """Ask the server whether it serves."""
        return self.pid is not None and self._is_ready()

    def stop(self, *, timeout_s: float = 60.0) -> None:
        """End it politely, with SIGKILL after `timeout_s` seconds. Idempotent."""
        self._end(self._stop_signal, timeout_s=timeout_s)
        self.kill()

    def kill(self) -> None:
        """End it and all its descendants by SIGKILL. Idempotent."""
        family = [] if (pid := self.pid) is None else _family(pid)
        for member in family:
            _send(member, signal.SIGKILL)
        give_up_at = time.monotonic() + 60.0
        while (self.pid is not None or any(map(_start_ticks, family))) and time.monotonic() < give_up_at:
            time.sleep(_POLL_S)
        self._reap(timeout_s=60.0)

    def send(self, signal_number: signal.Signals) -> None:
        """Send a signal to the server and all its descendants, e.g. SIGSTOP and SIGCONT.

        After SIGSTOP it returns when none of their threads runs: one thread takes the signal, and until a busy machine
        has woken that one the others go on and answer. Raises ServerFailed where some still run after a minute.
        """
        if (pid := self.pid) is None:
            return
        family = _family(pid)
        for member in family:
            _send(member, signal_number)
        if signal_number == signal.SIGSTOP:
            self._wait_until_still(family)

    def _wait_until_still(self, family: Sequence[int]) -> None:
        give_up_at = time.monotonic() + _STANDS_STILL_WITHIN_S
        while not all(map(_stands_still, family)):
            if time.monotonic() > give_up_at:
                raise ServerFailed(
                    name=self.name, reason=f"did not stop within {_STANDS_STILL_WITHIN_S:.0f} s", log=self.log
                )
            time.sleep(0.001)

    def _note_end(self) -> None:
        """Let the child's object know that it is over: it was reaped by whoever looked first."""
        if self._child is not None:
            self._child.poll()

    def _spawn(self, *, dies_with_parent: bool) -> None:
        self._note_end()
        self.folder.mkdir(parents=True, exist_ok=True)
        command = self._command
        if dies_with_parent:
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        if self._user is not None and os.geteuid() == 0:
            # `setpriv` changes the user without a shell and without a session of its own.
            command = [
                "setpriv", "--reuid", self._user, "--regid", self._user, "--init-groups",
                *(["--pdeathsig", "KILL"] if dies_with_parent else []), "--", *self._command,
            ]  # fmt: skip
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603  (our own commands)
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | self._environment,
                start_new_session=True,
            )
        (self.folder / "pid").write_text(f"{self._child.pid} {_start_ticks(self._child.pid)}")

    def _end(self, signal_number: signal.Signals, *, timeout_s: float) -> None:
        give_up_at = time.monotonic() + timeout_s
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal_number)
        while self.pid is not None and time.monotonic() < give_up_at:
            time.sleep(_POLL_S)
        self._reap(timeout_s=timeout_s)

    def _reap(self, *, timeout_s: float) -> None:
        if self._child is not None and self.pid is None:
            # A process whose first thread is a zombie is not gone: its other threads may hold the port for a moment.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=timeout_s)


def _send(pid: int, signal_number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)


def _stands_still(pid: int) -> bool:
    """Tell whether no thread of a process runs: each is stopped or over. True for a process that is gone."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return True
    for thread in threads:
        with contextlib.suppress(OSError):
            if _stat_fields(thread)[0] not in "TtZX":
                return False
    return True


def _family(pid: int) -> list[int]:
    """Return a process and its descendants, itself first. PostgreSQL's have sessions of their own: no group holds all."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int(_stat_fields(entry)[1])
                children.setdefault(parent, []).append(int(entry.name))
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return family


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Tell whether somebody listens on a TCP port of the loopback."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _start_ticks(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None where it is gone or only waits to be reaped."""
    try:
        fields = _stat_fields(Path(f"/proc/{pid}"))
    except OSError:
        return None
    if fields[0] == "Z":
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return None
    return fields[19]


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_LOG_TAIL_LINES:])


def _stat_fields(process: Path) -> list[str]:
    """Return what /proc says of a process or thread, from its state on: 0 is the state, 1 the parent, 19 the start in clock ticks.

    proc(5) counts from 1 and has the name before them, in parentheses, which may hold spaces. Raises OSError where it is gone.
    """
    return (process / "stat").read_text().rpartition(")")[2].split()
