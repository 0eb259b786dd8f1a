"""Training with the tiny student: exact resume, redelivery, one story per failure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.events.facts import Fact, StageFailed, StudentTrained
from baldistill.runtime.launching import Job, JobStopped
from baldistill.runtime.progress import always, no_progress_of_any
from baldistill.testing.small_runs import RUN_ID, TENANT, SmallRun, small_examples
from services.trainer.composition import Trainer, build_trainer
from services.trainer.job import run_job

SIZES = {"billing": 9, "login": 6, "delivery": 3}
TEST = {"billing": 20, "login": 10, "delivery": 5}


@pytest.fixture
def make_run(tmp_path: Path, tiny_base: Path) -> Callable[..., SmallRun]:
    def make(name: str = "store", **spec_changes: Any) -> SmallRun:
        store = LocalArtifactStore(tmp_path / name)
        return SmallRun.create(store, base=tiny_base, pool=SIZES, test=TEST, **spec_changes)

    return make


def job_of(run: SmallRun, *, stage: int, epoch: int = 1) -> Job:
    return Job(tenant=TENANT, run_id=RUN_ID, epoch=epoch, stage=stage, spec=run.spec)


def collect(run: SmallRun, *, stage: int = 1) -> None:
    run.rationales_collected(stage=stage, examples=small_examples(SIZES, prefix=f"pool{stage}"))


def adapter_sha256(run: SmallRun, *, stage: int = 1) -> str:
    manifest = run.store.find_manifest(run.frozen.layout.stage(stage).student)
    assert manifest is not None
    return manifest.files["adapter_model"].sha256


def stop_at_step(wanted: int) -> tuple[Callable[[], bool], Callable[..., None]]:
    """Return what asks for a stop once `wanted` steps of training are done, and the progress sink that sees them."""
    reached = threading.Event()

    def progress(*, step: str, done: int, total: int, unit: str) -> None:
        if step == "train" and done == wanted:
            reached.set()

    return reached.is_set, progress


def run_to_its_end(run: SmallRun, *, stage: int = 1) -> None:
    run_job(job_of(run, stage=stage), lambda: False, store=run.store, progress=no_progress_of_any)


@pytest.mark.parametrize("stopped_after", [1, 4, 7])
def test_an_interrupted_training_ends_with_the_bytes_of_an_uninterrupted_one(
    make_run: Callable[..., SmallRun], stopped_after: int
) -> None:
    whole, interrupted = make_run("whole"), make_run("interrupted")
    for run in (whole, interrupted):
        collect(run)
    run_to_its_end(whole)
    should_stop, progress = stop_at_step(stopped_after)
    with pytest.raises(JobStopped):
        run_job(job_of(interrupted, stage=1), should_stop, store=interrupted.store, progress=always(progress))
    assert interrupted.store.find_manifest(interrupted.frozen.layout.stage(1).student) is None
    run_to_its_end(interrupted)
    assert adapter_sha256(interrupted) == adapter_sha256(whole)


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_from_the_newest_whole_checkpoint(make_run: Callable[..., SmallRun]) -> None:
    training = {"epochs": 2, "batch_size": 4, "micro_batch_size": 4, "max_tokens": 256, "checkpoint_every_steps": 2}
    whole, killed = make_run("whole"), make_run("killed")
    changed = {"base": whole.frozen.spec.student.base, "dtype": "float32", "training": training}
    whole, killed = make_run("whole2", student=changed), make_run("killed2", student=changed)
    for run in (whole, killed):
        collect(run)
    run_to_its_end(whole)
    steps: list[int] = []

    def die_at_seven(*, step: str, done: int, total: int, unit: str) -> None:
        if step == "train":
            steps.append(done)
            if done == 7:
                raise Killed

    with pytest.raises(Killed):
        run_job(job_of(killed, stage=1), lambda: False, store=killed.store, progress=always(die_at_seven))
    layout = killed.frozen.layout.stage(1)
    assert list(killed.store.list_manifests(prefix=layout.checkpoints_folder)) == [
        layout.checkpoint(4),
        layout.checkpoint(6),
    ]
    newest = killed.store.find_manifest(layout.checkpoint(6))
    assert newest is not None
    killed.store.local_path(newest.files["checkpoint"]).write_bytes(b"damaged")

    steps.clear()
    run_job(
        job_of(killed, stage=1),
        lambda: False,
        store=killed.store,
        progress=always(lambda *, step, done, total, unit: steps.append(done) if step == "train" else None),
    )
    assert steps[0] == 4
    assert adapter_sha256(killed) == adapter_sha256(whole)
    assert list(killed.store.list_manifests(prefix=layout.checkpoints_folder)) == []


def test_equal_specs_give_equal_students_and_equal_metrics(make_run: Callable[..., SmallRun]) -> None:
    manifests = []
    for name in ("one", "other"):
        run = make_run(name)
        collect(run)
        run_to_its_end(run)
        layout = run.frozen.layout.stage(1)
        found = [run.store.find_manifest(layout.student), run.store.find_manifest(layout.metrics)]
        manifests.append([run.store.manifest_ref(one) for one in found if one is not None])
    assert len(manifests[0]) == 2
    assert manifests[0] == manifests[1]


def wait_for(published: list[Fact], trainer: Trainer) -> None:
    finished = threading.Event()
    while trainer.busy():
        finished.wait(0.02)
    assert published


@pytest.fixture
def composed(
    make_run: Callable[..., SmallRun],
) -> Any:
    published: list[Fact] = []
    failures: list[Exception] = []
    run = make_run()
    trainer = build_trainer(
        store=run.store, publish=published.extend, on_job_failed=lambda _job, error: failures.append(error)
    )
    yield run, trainer, published, failures
    trainer.close()


def test_a_batch_makes_a_student_once_and_a_redelivery_only_reports_it(composed: Any) -> None:
    run, trainer, published, failures = composed
    handlers = trainer.groups[0].handlers
    event = run.rationales_collected(stage=1, examples=small_examples(SIZES, prefix="pool"))
    assert list(handlers[type(event)](event)) == []
    assert list(handlers[type(event)](event)) == []
    wait_for(published, trainer)
    assert failures == []
    assert [type(fact) for fact in published] == [StudentTrained]
    assert list(handlers[type(event)](event)) == published


def test_a_job_is_reported_under_the_newest_epoch(composed: Any) -> None:
    run, trainer, published, _ = composed
    handlers = trainer.groups[0].handlers
    examples = small_examples(SIZES, prefix="pool")
    for epoch in (1, 2):
        event = run.rationales_collected(stage=1, examples=examples, epoch=epoch)
        handlers[type(event)](event)
    wait_for(published, trainer)
    assert [fact.epoch for fact in published] == [2]


def test_a_batch_without_rows_is_a_verdict_on_the_run(composed: Any) -> None:
    run, trainer, published, failures = composed
    event = run.rationales_collected(stage=1, examples=[])
    trainer.groups[0].handlers[type(event)](event)
    wait_for(published, trainer)
    assert failures == []
    assert [type(fact) for fact in published] == [StageFailed]
    assert "no row to train on" in published[0].reason


def test_the_zero_shot_student_is_measured_at_submit(composed: Any) -> None:
    run, trainer, published, _ = composed
    event = run.submitted()
    trainer.groups[0].handlers[type(event)](event)
    wait_for(published, trainer)
    assert published[0].stage == 0
    assert list(trainer.groups[0].handlers[type(event)](event)) == published
