"""The embedded launcher: one job of a name, in order, newest epoch, every end told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import DependencyUnavailable, PermanentError
from baldistill.runtime.in_process_launcher import InProcessLauncher
from baldistill.runtime.launching import Job, JobStopped
from baldistill.runtime.retries import RetryPolicy

SPEC = ArtifactRef(key="spec.json", sha256="0" * 64, size_bytes=2)


def job(stage: int, *, epoch: int = 1, run_id: str = "r") -> Job:
    return Job(tenant="acme", run_id=run_id, epoch=epoch, stage=stage, spec=SPEC)


class Recording:
    """A launcher whose work waits for `go`, and what it told."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        self.worked: list[tuple[int, int]] = []
        self.done: list[Job] = []
        self.failed: list[tuple[Job, Exception]] = []
        self.errors: list[Exception] = []
        self.launcher = InProcessLauncher(
            work=self._work,
            on_done=self.done.append,
            on_failed=lambda one, error: self.failed.append((one, error)),
            retries=RetryPolicy(tries=3, first_delay_s=0.001),
        )

    def _work(self, one: Job, should_stop: Callable[[], bool]) -> None:
        self.worked.append((one.stage, one.epoch))
        self.begun.set()
        while not self.go.wait(0.005) and not should_stop():
            pass
        if should_stop():
            raise JobStopped
        if self.errors:
            raise self.errors.pop(0)

    def settle(self) -> None:
        self.go.set()
        pause = threading.Event()
        while self.launcher.is_busy():
            pause.wait(0.002)


@pytest.fixture
def recording() -> Iterator[Recording]:
    one = Recording()
    yield one
    one.launcher.close()


def test_jobs_are_done_in_the_order_of_their_launch(recording: Recording) -> None:
    for stage in (2, 0, 1):
        recording.launcher.launch(job(stage))
    assert recording.launcher.is_busy()
    recording.settle()
    assert [one.stage for one in recording.done] == [2, 0, 1]


def test_a_name_that_is_there_already_is_done_once_and_told_under_the_newest_epoch(recording: Recording) -> None:
    recording.launcher.launch(job(1))
    recording.begun.wait()
    recording.launcher.launch(job(1, epoch=3))
    recording.launcher.launch(job(1, epoch=2))
    recording.settle()
    assert recording.worked == [(1, 1)]
    assert [one.epoch for one in recording.done] == [3]


def test_a_stopped_run_may_be_launched_again_at_once(recording: Recording) -> None:
    recording.launcher.launch(job(1))
    recording.launcher.launch(job(1, run_id="other"))
    recording.begun.wait()
    recording.launcher.stop(tenant="acme", run_id="r")
    recording.launcher.launch(job(1, epoch=2))
    recording.settle()
    assert recording.failed == []
    assert [(one.run_id, one.epoch) for one in recording.done] == [("other", 1), ("r", 2)]


def test_what_may_pass_is_tried_again_and_then_told(recording: Recording) -> None:
    recording.errors = [DependencyUnavailable(dependency="store", reason="away")]
    recording.launcher.launch(job(1))
    recording.settle()
    assert (len(recording.worked), len(recording.done), recording.failed) == (2, 1, [])

    recording.errors = [DependencyUnavailable(dependency="store", reason="away") for _ in range(3)]
    recording.launcher.launch(job(2))
    recording.settle()
    assert len(recording.worked) == 5
    assert [(one.stage, type(error)) for one, error in recording.failed] == [(2, DependencyUnavailable)]


@pytest.mark.parametrize("error", [PermanentError("no"), ZeroDivisionError("unexpected")])
def test_what_cannot_pass_is_told_at_once_and_the_next_job_goes_on(recording: Recording, error: Exception) -> None:
    recording.errors = [error]
    recording.launcher.launch(job(1))
    recording.launcher.launch(job(2))
    recording.settle()
    assert [(one.stage, found) for one, found in recording.failed] == [(1, error)]
    assert [one.stage for one in recording.done] == [2]


def test_a_failed_job_may_be_launched_again(recording: Recording) -> None:
    recording.errors = [PermanentError("no")]
    for epoch in (1, 2):
        recording.launcher.launch(job(1, epoch=epoch))
        recording.settle()
    assert [one.epoch for one in recording.done] == [2]


def test_closing_stops_what_works_and_starts_nothing_more(recording: Recording) -> None:
    recording.launcher.launch(job(1))
    recording.launcher.launch(job(2))
    recording.begun.wait()
    recording.launcher.close()
    recording.launcher.launch(job(3))
    assert recording.worked == [(1, 1)]
    assert (recording.done, recording.failed) == ([], [])
    assert not recording.launcher.is_busy()
