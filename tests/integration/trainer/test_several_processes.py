"""Trainings by several processes under torchrun: real processes over a store of local files."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.errors import InvalidInput
from baldistill.jobs.process_work import ProcessWork
from baldistill.runtime.launching import Job, JobDisrupted, JobStopped
from baldistill.runtime.progress import always, no_progress_of_any
from baldistill.student.replicas import OneProcess
from baldistill.testing.small_runs import RUN_ID, TENANT, SmallRun, small_examples
from services.trainer.composition import embedded_processes
from services.trainer.errors import ReplicasDisagree, TrainingDiverged
from services.trainer.job import run_job
from services.trainer.several_processes import divided

_log = logging.getLogger(__name__)

SIZES = {"billing": 9, "login": 6, "delivery": 2}


def make_run(folder: Path, base: Path, *, processes: int, **training: Any) -> tuple[SmallRun, Job]:
    student = {
        "base": str(base),
        "dtype": "float32",
        "lora": {"dropout": 0.0},
        # 17 rows: 5 steps an epoch, the last of one row, which leaves one of two processes without any.
        "training": {"epochs": 2, "batch_size": 4, "learning_rate": 0.01, "max_tokens": 256, "processes": processes}
        | training,
    }
    store = LocalArtifactStore(folder / "artifacts")
    run = SmallRun.create(store, base=base, pool=SIZES, test=SIZES, student=student)
    run.rationales_collected(stage=1, examples=small_examples(SIZES, prefix="pool"))
    return run, Job(tenant=TENANT, run_id=RUN_ID, epoch=1, stage=1, spec=run.spec)


class Together:
    """What does trainings of several processes over a run's folder; its progress is kept."""

    def __init__(self, folder: Path) -> None:
        self.steps: list[int] = []
        self.work = embedded_processes(
            artifacts=folder / "artifacts", logs=folder / "logs", progress=always(self._tell)
        )

    def _tell(self, *, step: str, done: int, total: int, unit: str) -> None:
        if step == "train":
            self.steps.append(done)


@pytest.fixture(scope="module")
def done_by_two(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> tuple[SmallRun, Together]:
    folder = tmp_path_factory.mktemp("two")
    run, job = make_run(folder, tiny_base, processes=2)
    together = Together(folder)
    together.work(job, lambda: False)
    return run, together


def adapter(run: SmallRun) -> dict[str, torch.Tensor]:
    manifest = run.store.find_manifest(run.frozen.layout.stage(1).student)
    assert manifest is not None
    weights: dict[str, torch.Tensor] = load_file(run.store.local_path(manifest.files["adapter_model"]))
    return weights


def largest_difference(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_two_processes_train_the_student_of_one(
    tmp_path: Path, tiny_base: Path, done_by_two: tuple[SmallRun, Together]
) -> None:
    one, job = make_run(tmp_path, tiny_base, processes=1)
    run_job(job, lambda: False, store=one.store, progress=no_progress_of_any)
    two, together = done_by_two
    manifest = two.store.find_manifest(two.frozen.layout.stage(1).student)
    assert manifest is not None
    assert manifest.attributes["steps"] == 10
    difference = largest_difference(adapter(one), adapter(two))
    _log.info("weights differ by at most %.3g", difference)
    assert difference <= 1e-5
    # The first process measured it, and it alone told how far they were.
    assert two.store.find_manifest(two.frozen.layout.stage(1).metrics) is not None
    assert together.steps == sorted(set(together.steps))
    assert (together.steps[0], together.steps[-1]) == (0, 10)


def begin_and_wait_at_step(step: int, job: Job, folder: Path, *, stop: threading.Event) -> Future[None]:
    """Have two processes train that wait after a step; returns when they do."""
    reached = folder / "reached.txt"
    work = ProcessWork(
        module="tests.integration.trainer.waiting_processes",
        folder=folder / "logs",
        progress=no_progress_of_any,
        environment={
            "BALDISTILL_ARTIFACTS_FOLDER": str(folder / "artifacts"),
            "WAIT_AFTER_STEP": str(step),
            "REACHED": str(reached),
        },
    )
    ended: Future[None] = ThreadPoolExecutor(max_workers=1).submit(work, job, stop.is_set)
    while not (reached.exists() and reached.read_text().endswith("\n")):
        assert not ended.done(), ended.exception()
        time.sleep(0.02)
    return ended


def test_stopped_or_killed_they_go_on_from_the_checkpoint_with_the_same_bytes(
    tmp_path: Path, tiny_base: Path, done_by_two: tuple[SmallRun, Together]
) -> None:
    undisturbed, _ = done_by_two
    run, job = make_run(tmp_path, tiny_base, processes=2, checkpoint_every_steps=1)
    stop = threading.Event()
    ended = begin_and_wait_at_step(3, job, tmp_path, stop=stop)
    stop.set()
    assert isinstance(ended.exception(), JobStopped)
    (tmp_path / "reached.txt").unlink()

    # One that is killed takes the others with it, and nothing is counted against the training.
    ended = begin_and_wait_at_step(6, job, tmp_path, stop=threading.Event())
    os.kill(int((tmp_path / "reached.txt").read_text()), signal.SIGKILL)
    assert isinstance(ended.exception(), JobDisrupted)

    last = Together(tmp_path)
    last.work(job, lambda: False)
    # Step 6 was done and not yet saved.
    assert last.steps[0] == 5
    assert largest_difference(adapter(run), adapter(undisturbed)) == 0.0


class OneOfTwo(OneProcess):
    """The first of two processes, the other of which tells what it tells."""

    count = 2

    def __init__(self, other: Sequence[Sequence[float]]) -> None:
        self._other = iter(other)

    def sum(self, values: Sequence[float]) -> list[float]:
        return [own + theirs for own, theirs in zip(values, next(self._other), strict=True)]


def test_a_loss_that_is_no_number_in_another_process_is_a_verdict_that_names_its_row(
    tmp_path: Path, tiny_base: Path
) -> None:
    run, job = make_run(tmp_path, tiny_base, processes=2)
    # Where it goes on from, a step's loss (and stops, halvings), which of the step's four rows have none.
    other = OneOfTwo([[0.0], [math.nan, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    with pytest.raises(TrainingDiverged, match=r"the loss of step 1 is not finite") as raised:
        run_job(job, lambda: False, store=run.store, progress=no_progress_of_any, replicas=other)
    assert len(raised.value.row_ids) == 1


def test_processes_that_would_go_on_from_different_steps_do_not_begin(tmp_path: Path, tiny_base: Path) -> None:
    run, job = make_run(tmp_path, tiny_base, processes=2)
    with pytest.raises(ReplicasDisagree):
        run_job(job, lambda: False, store=run.store, progress=no_progress_of_any, replicas=OneOfTwo([[5.0]]))


def test_several_processes_without_a_store_that_each_can_open_are_refused(tmp_path: Path, tiny_base: Path) -> None:
    run, job = make_run(tmp_path, tiny_base, processes=2)
    work = divided(store=run.store, alone=lambda _job, _stop: None, together=None)
    with pytest.raises(InvalidInput, match="a store that each can open"):
        work(job, lambda: False)
