"""Promises of JobLauncher, over every launcher: in one process, and durable over a shared registry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import PermanentError, RetryableError
from baldistill.events.trace_context import carrying, current_traceparent
from baldistill.jobs.owners import JobOwner
from baldistill.jobs.sql_registry import SqlJobRegistry
from baldistill.jobs.watcher import JobWatcher
from baldistill.runtime.in_process_launcher import InProcessLauncher
from baldistill.runtime.launching import Job, JobKind, JobLauncher, JobStopped
from baldistill.runtime.retries import RetryPolicy
from baldistill.testing.databases import DATABASE_KINDS, new_location, open_test_database

SPEC = ArtifactRef(key="spec.json", sha256="0" * 64, size_bytes=2)
RETRIES = RetryPolicy(tries=3, first_delay_s=0.001)


class MayPass(RetryableError):
    pass


def job(stage: int, *, epoch: int = 1, run_id: str = "r") -> Job:
    return Job(tenant="acme", run_id=run_id, epoch=epoch, stage=stage, spec=SPEC)


class Recording:
    """A launcher whose work waits for `go`, and what it told."""

    def __init__(self, make: Callable[[Recording], JobLauncher]) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        self.at_once = 0
        self.most_at_once = 0
        self.worked: list[tuple[int, int]] = []
        self.done: list[Job] = []
        self.failed: list[tuple[Job, Exception]] = []
        self.ended: list[tuple[int, float]] = []
        self.traces: set[tuple[str, str | None]] = set()
        self.errors: list[Exception] = []
        self.launcher = make(self)

    def work(self, one: Job, should_stop: Callable[[], bool]) -> None:
        self.worked.append((one.stage, one.epoch))
        self.traces.add(("work", current_traceparent()))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.begun.set()
            while not self.go.wait(0.005) and not should_stop():
                pass
            if should_stop():
                raise JobStopped
            if self.errors:
                raise self.errors.pop(0)
        finally:
            self.at_once -= 1

    def on_done(self, one: Job) -> None:
        self.traces.add(("done", current_traceparent()))
        self.done.append(one)

    def on_failed(self, one: Job, error: Exception) -> None:
        self.traces.add(("failed", current_traceparent()))
        self.failed.append((one, error))

    def settle(self) -> None:
        self.go.set()
        pause = threading.Event()
        while self.launcher.is_busy():
            pause.wait(0.002)


def in_process(recording: Recording) -> JobLauncher:
    return InProcessLauncher(
        work=recording.work, on_done=recording.on_done, on_failed=recording.on_failed, retries=RETRIES
    )


# leaving: its work is elsewhere and outlives it, as Jobs of a cluster do; for the rest it keeps the same promises.
@pytest.fixture(params=["in-process", *(f"durable-{kind}" for kind in DATABASE_KINDS), "leaving-sqlite"])
def recording(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Recording]:
    way, _, kind = str(request.param).rpartition("-")
    if way == "in":
        one = Recording(in_process)
        yield one
        one.launcher.close()
        return
    with new_location(kind, tmp_path) as location:
        engine = open_test_database(kind=kind, location=location)

        def durable(recording: Recording) -> JobLauncher:
            watcher = JobWatcher(
                registry=SqlJobRegistry(engine),
                owner=JobOwner(lock_folder=tmp_path / "locks"),
                kinds=[JobKind.TRAIN],
                work=recording.work,
                on_done=recording.on_done,
                on_failed=recording.on_failed,
                on_ended=lambda one, age_s: recording.ended.append((one.stage, age_s)),
                retries=RETRIES,
                tick_s=0.02,
                leaves_work=way == "leaving",
            )
            watcher.start()
            return watcher

        one = Recording(durable)
        yield one
        one.launcher.close()
        engine.dispose()


def test_jobs_are_done_one_at_a_time_and_told(recording: Recording) -> None:
    for stage in (2, 0, 1):
        recording.launcher.launch(job(stage))
    assert recording.launcher.is_busy()
    recording.settle()
    assert sorted(one.stage for one in recording.done) == [0, 1, 2]
    assert recording.most_at_once == 1


def test_a_name_that_is_there_already_is_done_once_and_told_under_the_newest_epoch(recording: Recording) -> None:
    recording.launcher.launch(job(1))
    assert recording.begun.wait(30)
    recording.launcher.launch(job(1, epoch=3))
    recording.launcher.launch(job(1, epoch=2))
    recording.settle()
    assert recording.worked == [(1, 1)]
    assert [one.epoch for one in recording.done] == [3]


def test_a_stopped_run_may_be_launched_again_at_once(recording: Recording) -> None:
    recording.launcher.launch(job(1))
    recording.launcher.launch(job(1, run_id="other"))
    assert recording.begun.wait(30)
    recording.launcher.stop(tenant="acme", run_id="r")
    recording.launcher.launch(job(1, epoch=2))
    recording.settle()
    assert recording.failed == []
    assert sorted((one.run_id, one.epoch) for one in recording.done) == [("other", 1), ("r", 2)]
    assert recording.most_at_once == 1


def test_a_stopped_job_that_nobody_launches_again_is_not_told(recording: Recording) -> None:
    recording.launcher.launch(job(1))
    recording.launcher.launch(job(2))
    assert recording.begun.wait(30)
    recording.launcher.stop(tenant="acme", run_id="r")
    pause = threading.Event()
    while recording.launcher.is_busy():
        pause.wait(0.002)
    assert (recording.done, recording.failed) == ([], [])
    assert len(recording.worked) == 1


def test_what_may_pass_is_tried_again_and_then_told(recording: Recording) -> None:
    recording.errors = [MayPass()]
    recording.launcher.launch(job(1))
    recording.settle()
    assert (len(recording.worked), len(recording.done), recording.failed) == (2, 1, [])

    recording.errors = [MayPass(), MayPass(), MayPass()]
    recording.launcher.launch(job(2))
    recording.settle()
    assert len(recording.worked) == 5
    assert [(one.stage, type(error)) for one, error in recording.failed] == [(2, MayPass)]


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


def test_closing_stops_what_works_and_tells_nothing(recording: Recording) -> None:
    recording.launcher.launch(job(1))
    assert recording.begun.wait(30)
    recording.launcher.close()
    recording.launcher.close()
    recording.go.set()
    assert recording.worked == [(1, 1)]
    assert (recording.done, recording.failed) == ([], [])


def test_what_a_job_does_and_leads_to_goes_on_in_the_trace_of_whoever_launched_it(recording: Recording) -> None:
    done, failed = (f"00-{digit * 32}-{digit * 16}-01" for digit in "12")
    with carrying(done):
        recording.launcher.launch(job(1))
    recording.settle()
    assert recording.traces == {("work", done), ("done", done)}
    recording.traces.clear()
    recording.errors = [PermanentError("no")]
    with carrying(failed):
        recording.launcher.launch(job(2))
    recording.settle()
    assert recording.traces == {("work", failed), ("failed", failed)}
    recording.traces.clear()
    recording.launcher.launch(job(3))
    recording.settle()
    assert recording.traces == {("work", None), ("done", None)}


def test_what_is_told_under_a_newer_epoch_goes_on_in_the_newer_trace(recording: Recording) -> None:
    older, newer = (f"00-{digit * 32}-{digit * 16}-01" for digit in "12")
    with carrying(older):
        recording.launcher.launch(job(1))
    assert recording.begun.wait(30)
    with carrying(newer):
        recording.launcher.launch(job(1, epoch=2))
    recording.settle()
    assert recording.traces == {("work", older), ("done", newer)}


def test_how_long_a_job_took_is_told_once_when_it_is_done_or_given_up_and_not_when_it_is_stopped(
    recording: Recording,
) -> None:
    recording.launcher.launch(job(1))
    assert recording.begun.wait(30)
    recording.launcher.stop(tenant="acme", run_id="r")
    recording.settle()
    assert recording.ended == []
    recording.errors = [MayPass(), MayPass(), MayPass()]
    recording.launcher.launch(job(2))
    recording.settle()
    recording.launcher.launch(job(3))
    recording.settle()
    # A command has no page of metrics.
    told = [] if isinstance(recording.launcher, InProcessLauncher) else [2, 3]
    assert [stage for stage, _ in recording.ended] == told
    assert all(age_s >= 0 for _, age_s in recording.ended)
