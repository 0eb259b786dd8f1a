"""What the embedded launcher promises beyond the port (tests/contracts/test_launcher_contract.py)."""

from __future__ import annotations

import threading
from collections.abc import Callable

from baldistill.artifacts.ports import ArtifactRef
from baldistill.runtime.in_process_launcher import InProcessLauncher
from baldistill.runtime.launching import Job, JobStopped

SPEC = ArtifactRef(key="spec.json", sha256="0" * 64, size_bytes=2)


def job(stage: int) -> Job:
    return Job(tenant="acme", run_id="r", epoch=1, stage=stage, spec=SPEC)


def nobody_fails(_job: Job, error: Exception) -> None:
    raise AssertionError from error


def test_jobs_are_done_in_the_order_of_their_launch() -> None:
    done: list[int] = []
    launcher = InProcessLauncher(
        work=lambda _job, _stop: None, on_done=lambda one: done.append(one.stage), on_failed=nobody_fails
    )
    for stage in (2, 0, 1):
        launcher.launch(job(stage))
    pause = threading.Event()
    while launcher.is_busy():
        pause.wait(0.002)
    launcher.close()
    assert done == [2, 0, 1]


def test_after_its_end_it_starts_nothing_more() -> None:
    begun, worked = threading.Event(), []

    def work(one: Job, should_stop: Callable[[], bool]) -> None:
        worked.append(one.stage)
        begun.set()
        while not should_stop():
            threading.Event().wait(0.005)
        raise JobStopped

    launcher = InProcessLauncher(work=work, on_done=lambda _job: None, on_failed=nobody_fails)
    launcher.launch(job(1))
    launcher.launch(job(2))
    assert begun.wait(10)
    launcher.close()
    launcher.launch(job(3))
    assert worked == [1]
    assert not launcher.is_busy()
