"""A job in a process of its own: its end is told as what it was, and it never outlives who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import BalDistillError, DependencyUnavailable
from baldistill.jobs.process_work import JobCrashed, JobGaveUp, ProcessWork
from baldistill.jobs.watcher import LeaseLost
from baldistill.runtime.launching import Job, JobDisrupted, JobStopped, VerdictOnData
from baldistill.runtime.progress import always

MODULE = "baldistill.testing.job_module"
SPEC = ArtifactRef(key="spec.json", sha256="0" * 64, size_bytes=2)


def job(run_id: str) -> Job:
    return Job(tenant="acme", run_id=run_id, epoch=1, stage=1, spec=SPEC)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def pid_in(log: Path) -> int:
    """Wait until the job's process has begun to work, and return its id."""
    give_up_at = time.monotonic() + 60
    while time.monotonic() < give_up_at:
        if log.exists() and (line := log.read_text()).startswith("pid ") and line.endswith("\n"):
            return int(line.split()[1])
        time.sleep(0.02)
    raise AssertionError("the job's process did not begin")


class Watched:
    """Work whose progress is kept."""

    def __init__(self, folder: Path) -> None:
        self.told: list[tuple[str, int, int]] = []
        self.folder = folder
        self.work = ProcessWork(module=MODULE, folder=folder, progress=always(self._tell), grace_s=20)

    def _tell(self, *, step: str, done: int, total: int, unit: str) -> None:
        self.told.append((step, done, total))


def test_a_job_that_ends_well_told_its_progress_and_what_it_printed_is_in_its_log(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.work(job("fine"), lambda: False)
    assert watched.told == [("train", 1, 1)]
    assert (tmp_path / "acme-train-fine-1.log").read_text() == "printed by a library\n"


@pytest.mark.parametrize(
    ("run_id", "error", "message"),
    [
        ("verdict", VerdictOnData, "no row to train on"),
        ("unavailable", DependencyUnavailable, "store is not reachable: away"),
        ("permanent", JobGaveUp, "PermanentError: an artifact is missing"),
        ("unexpected", JobGaveUp, "ZeroDivisionError"),
        ("exits", JobCrashed, "(?s)exit code 3.*the last words"),
        ("aborts", JobCrashed, "SIGABRT"),
        ("killed", JobDisrupted, "SIGKILL"),
    ],
)
def test_how_a_process_ended_decides_what_is_done_about_it(
    tmp_path: Path, run_id: str, error: type[BalDistillError], message: str
) -> None:
    with pytest.raises(error, match=message):
        Watched(tmp_path).work(job(run_id), lambda: False)


def test_a_job_that_is_done_already_needs_no_process(tmp_path: Path) -> None:
    work = ProcessWork(module=MODULE, folder=tmp_path, progress=always(Watched(tmp_path)._tell), is_done=lambda _: True)
    work(job("killed"), lambda: False)
    assert list(tmp_path.iterdir()) == []


def test_a_stop_is_passed_on_and_the_process_ends_at_its_next_step(tmp_path: Path) -> None:
    watched, stop = Watched(tmp_path), threading.Event()

    def stop_when_it_works() -> None:
        pid_in(tmp_path / "acme-train-long-1.log")
        stop.set()

    threading.Timer(0, stop_when_it_works).start()
    with pytest.raises(JobStopped):
        watched.work(job("long"), stop.is_set)
    assert watched.told
    assert not is_alive(pid_in(tmp_path / "acme-train-long-1.log"))


def test_a_lost_lease_ends_the_process_at_once(tmp_path: Path) -> None:
    log = tmp_path / "acme-train-long-1.log"

    def should_stop() -> bool:
        if log.exists() and log.read_text().endswith("\n"):
            raise LeaseLost("another owner has it")
        return False

    with pytest.raises(LeaseLost):
        Watched(tmp_path).work(job("long"), should_stop)
    assert not is_alive(pid_in(log))


def test_a_process_killed_from_outside_is_disrupted_not_failed(tmp_path: Path) -> None:
    log = tmp_path / "acme-train-long-1.log"
    threading.Timer(0, lambda: os.kill(pid_in(log), signal.SIGKILL)).start()
    with pytest.raises(JobDisrupted):
        Watched(tmp_path).work(job("long"), lambda: False)


PARENT = """
import sys, threading
from pathlib import Path
from baldistill.jobs.process_work import ProcessWork
from baldistill.runtime.launching import Job
from baldistill.runtime.progress import no_progress_of_any
work = ProcessWork(module="baldistill.testing.job_module", folder=Path(sys.argv[1]), progress=no_progress_of_any)
thread = threading.Thread(target=work, args=(Job.from_json(sys.argv[2]), lambda: False))
thread.start()
thread.join()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_is_left_when_its_parent_is_killed(tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path), job("long").to_json()]
    with subprocess.Popen(command) as parent:
        child = pid_in(tmp_path / "acme-train-long-1.log")
        assert is_alive(child)
        parent.send_signal(how)
        parent.wait(30)
        give_up_at = time.monotonic() + 10
        while is_alive(child) and time.monotonic() < give_up_at:
            time.sleep(0.02)
    assert not is_alive(child)
