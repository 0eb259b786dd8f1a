"""One broker for all tests of a run, however many processes they are spread over; it ends when the last of them has.

Run as a module this is the keeper: the broker's parent, which stops it when nobody holds the users' lock any more. Locks
are dropped by the kernel, so that a killed test process leaves no broker behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from baldistill.local_stack.kafka import LocalKafka, make_kafka
from baldistill.local_stack.kafka_jars import kafka_jars
from baldistill.local_stack.server_process import ServerFailed, free_port

_START_S = 150.0
_LOOK_S = 0.5


@cache
def shared_kafka() -> str:
    """Return the address of the test run's broker, started where it is not yet. Raises ServerMissing, ServerFailed."""
    # All workers of a distributed test run are told the same id.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir()) / f"baldistill-kafka-{run}"
    folder.mkdir(exist_ok=True)
    # Fetched here, so that its errors come to whoever asked.
    kafka_jars()
    # Held until this process ends.
    users = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(users, fcntl.LOCK_SH)
    with (folder / "start.lock").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        if not (folder / "address").exists():
            _start_keeper(folder)
    return (folder / "address").read_text()


def start_own_kafka(folder: Path) -> LocalKafka:
    """Return a running broker of one's own, to stop and to kill. It dies with this process."""
    kafka = make_kafka(folder, port=free_port())
    kafka.start(dies_with_parent=True)
    return kafka


def _start_keeper(folder: Path) -> None:
    # Not by `subprocess`, which complains of children that outlive it: this one does on purpose.
    keeper = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "baldistill.testing.kafka_server", str(folder)],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(folder / "keeper.log"), os.O_WRONLY | os.O_CREAT, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    give_up_at = time.monotonic() + _START_S
    while not (folder / "address").exists():
        if os.waitpid(keeper, os.WNOHANG) != (0, 0) or time.monotonic() > give_up_at:
            raise ServerFailed(name="kafka", reason="did not start for the tests", log=folder / "keeper.log")
        time.sleep(_LOOK_S / 10)


def _keep(folder: Path) -> None:
    kafka = start_own_kafka(folder / "broker")
    written = folder / "address.new"
    written.write_text(kafka.bootstrap_servers)
    written.rename(folder / "address")
    with (folder / "users.lock").open("r+") as users:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(_LOOK_S)
    kafka.kill()
    shutil.rmtree(folder)


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
