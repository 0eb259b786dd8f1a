"""Trainers that share jobs: one process a training, taken up from its checkpoint whatever happens to its trainer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactRef
from baldistill.bus.in_process import InProcessBus
from baldistill.bus.ports import BusConsumer
from baldistill.events.codec import decode
from baldistill.events.dead_letters import dead_letter_topic, read_dead_letter
from baldistill.events.facts import Fact, RationalesCollected, RunBlocked, StageFailed, StudentTrained
from baldistill.runtime.launching import Job
from baldistill.runtime.progress import always, no_progress_of_any
from baldistill.testing.databases import open_test_database
from baldistill.testing.small_runs import RUN_ID, TENANT, SmallRun, small_examples
from services.trainer.composition import Trainer, build_trainer_service
from services.trainer.job import run_job
from services.trainer.settings import TrainerJobSettings

SIZES = {"billing": 9, "login": 6, "delivery": 3}
TEST = {"billing": 4, "login": 2, "delivery": 1}
LONG = {"epochs": 25, "batch_size": 4, "micro_batch_size": 4, "max_tokens": 256, "checkpoint_every_steps": 20}
# Longer than any test waits.
LEASE_S = 600.0


class Machine:
    """One machine with a store, a database, a bus, and as many trainers as are asked for."""

    def __init__(self, folder: Path, *, base: Path) -> None:
        self.folder = folder
        self.base = base
        self.store = LocalArtifactStore(folder / "store")
        self.bus = InProcessBus()
        self.steps: list[int] = []
        self._exit = ExitStack()
        self._exit.callback(self.bus.close)
        self._engine = open_test_database(kind="sqlite", location=str(folder))
        self._exit.callback(self._engine.dispose)
        topics = [StudentTrained.TOPIC, StageFailed.TOPIC, dead_letter_topic(RationalesCollected.TOPIC)]
        self._heard: BusConsumer = self.bus.consumer(group="test", topics=topics)

    def run(self, **training: Any) -> SmallRun:
        student = {"base": str(self.base), "dtype": "float32", "training": LONG | training}
        return SmallRun.create(self.store, base=self.base, pool=SIZES, test=TEST, student=student)

    def trainer(self) -> Trainer:
        trainer = build_trainer_service(
            store=self.store,
            engine=self._engine,
            bus=self.bus,
            progress=always(self._note),
            jobs=TrainerJobSettings(logs=self.folder / "logs", locks=self.folder / "locks", lease_s=LEASE_S),
            environment={"BALDISTILL_ARTIFACTS_FOLDER": str(self.folder / "store")},
        )
        self._exit.callback(trainer.close)
        return trainer

    def hear(self, *, timeout_s: float = 120) -> Fact:
        delivery = self._heard.poll(timeout_s=timeout_s)
        assert delivery is not None, "nothing was published"
        self._heard.commit(delivery)
        if delivery.message.topic.endswith(".dlq"):
            fact = read_dead_letter(delivery.message).fact
            assert fact is not None
            return fact
        return decode(delivery.message)

    def hears_nothing_more(self) -> bool:
        return self._heard.poll(timeout_s=0.5) is None

    def processes(self) -> list[str]:
        """Return what the log says of processes that began; each writes nothing else unless it fails."""
        return [path.read_text() for path in (self.folder / "logs").glob("*.log")]

    def close(self) -> None:
        self._exit.close()

    def _note(self, *, step: str, done: int, total: int, unit: str) -> None:
        if step == "train":
            self.steps.append(done)


@pytest.fixture
def machine(tmp_path: Path, tiny_base: Path) -> Iterator[Machine]:
    one = Machine(tmp_path, base=tiny_base)
    yield one
    one.close()


def deliver(trainer: Trainer, event: Fact) -> list[Fact]:
    return list(trainer.groups[0].handlers[type(event)](event))


def wait_until(reached: Callable[[], bool], *, timeout_s: float = 90) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < give_up_at, "the awaited moment did not come"
        time.sleep(0.01)


def collected(run: SmallRun, *, epoch: int = 1) -> RationalesCollected:
    return run.rationales_collected(stage=1, examples=small_examples(SIZES, prefix="pool1"), epoch=epoch)


def adapter(run: SmallRun) -> ArtifactRef:
    manifest = run.store.find_manifest(run.frozen.layout.stage(1).student)
    assert manifest is not None
    return manifest.files["adapter_model"]


def adapter_of_uninterrupted(folder: Path, machine: Machine) -> ArtifactRef:
    """Train the same spec in this process, without a stop."""
    student = {"base": str(machine.base), "dtype": "float32", "training": LONG}
    run = SmallRun.create(
        LocalArtifactStore(folder / "whole"), base=machine.base, pool=SIZES, test=TEST, student=student
    )
    collected(run)
    job = Job(tenant=TENANT, run_id=RUN_ID, epoch=1, stage=1, spec=run.spec)
    run_job(job, lambda: False, store=run.store, progress=no_progress_of_any)
    return adapter(run)


def children_of(pid: int) -> list[int]:
    """Return the job processes that a process has."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in found for child in path.read_text().split()]


def test_a_second_trainer_that_joins_and_leaves_disturbs_no_training(machine: Machine) -> None:
    run = machine.run()
    first = machine.trainer()
    assert deliver(first, collected(run)) == []
    wait_until(lambda: len(machine.steps) > 1)
    second = machine.trainer()
    assert deliver(second, collected(run)) == []
    second.launcher.close()
    fact = machine.hear()
    assert isinstance(fact, StudentTrained)
    assert machine.steps == sorted(machine.steps), "it began anew"
    assert machine.hears_nothing_more()
    assert deliver(first, collected(run, epoch=2))[0].epoch == 2


def test_a_trainer_that_ends_saves_a_checkpoint_and_another_goes_on_exactly_there(
    machine: Machine, tmp_path: Path
) -> None:
    run = machine.run()
    first = machine.trainer()
    deliver(first, collected(run))
    wait_until(lambda: max(machine.steps, default=0) > 10)
    first.close()
    stopped_at = max(machine.steps)
    checkpoints = list(run.store.list_manifests(prefix=run.frozen.layout.stage(1).checkpoints_folder))
    assert checkpoints
    machine.steps.clear()
    machine.trainer()
    assert isinstance(machine.hear(), StudentTrained)
    assert machine.steps[0] >= stopped_at
    assert adapter(run).sha256 == adapter_of_uninterrupted(tmp_path, machine).sha256


TRAINER = """
import sys, time
from pathlib import Path
from baldistill.artifacts.local import LocalArtifactStore
from baldistill.bus.in_process import InProcessBus
from baldistill.runtime.progress import no_progress_of_any
from baldistill.testing.databases import open_test_database
from services.trainer.composition import build_trainer_service
from services.trainer.settings import TrainerJobSettings
folder = Path(sys.argv[1])
trainer = build_trainer_service(
    store=LocalArtifactStore(folder / "store"),
    engine=open_test_database(kind="sqlite", location=str(folder)),
    bus=InProcessBus(),
    progress=no_progress_of_any,
    jobs=TrainerJobSettings(logs=folder / "logs", locks=folder / "locks", lease_s=600),
    environment={"BALDISTILL_ARTIFACTS_FOLDER": str(folder / "store")},
)
time.sleep(600)
"""


def test_a_killed_trainer_leaves_no_process_and_another_takes_its_training_up(machine: Machine, tmp_path: Path) -> None:
    run = machine.run()
    event = collected(run)
    checkpoints = run.frozen.layout.stage(1).checkpoints_folder
    with subprocess.Popen([sys.executable, "-c", TRAINER, str(tmp_path)]) as killed:
        # Nobody else takes the job yet: the registry is written to by a trainer that closes at once.
        writer = machine.trainer()
        writer.close()
        deliver(writer, event)
        wait_until(lambda: list(run.store.list_manifests(prefix=checkpoints)) != [])
        (child,) = children_of(killed.pid)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    wait_until(lambda: not is_alive(child), timeout_s=60)
    machine.trainer()
    # The lock proves the death: nobody waits until the lease is over.
    wait_until(lambda: children_of(os.getpid()) != [])
    wait_until(lambda: machine.steps != [])
    assert machine.steps[0] >= 20
    assert isinstance(machine.hear(), StudentTrained)
    assert adapter(run).sha256 == adapter_of_uninterrupted(tmp_path, machine).sha256


def test_a_stop_of_the_run_reaches_the_trainer_that_works_on_it_from_any_replica(machine: Machine) -> None:
    # So long that no machine ends it before the stop: the end of a training removes its checkpoints.
    run = machine.run(epochs=1000)
    first = machine.trainer()
    deliver(first, collected(run))
    wait_until(lambda: len(machine.steps) > 1)
    second = machine.trainer()
    second.launcher.stop(tenant=TENANT, run_id=RUN_ID)
    wait_until(lambda: not first.busy() and not second.busy(), timeout_s=30)
    assert machine.hears_nothing_more()
    assert list(run.store.list_manifests(prefix=run.frozen.layout.stage(1).checkpoints_folder))


def test_a_verdict_about_the_data_fails_the_stage(machine: Machine) -> None:
    run = machine.run()
    trainer = machine.trainer()
    deliver(trainer, run.rationales_collected(stage=1, examples=[], epoch=4))
    fact = machine.hear()
    assert isinstance(fact, StageFailed)
    assert (fact.epoch, fact.stage, fact.service) == (4, 1, "trainer")
    assert "no row to train on" in fact.reason


def test_what_is_no_verdict_blocks_the_run_by_a_dead_letter_of_the_fact_that_launched_it(machine: Machine) -> None:
    run = machine.run()
    event = collected(run)
    batch = run.store.find_manifest(run.frozen.layout.stage(1).batch)
    assert batch is not None
    run.store.local_path(batch.files["batch"]).unlink()
    deliver(machine.trainer(), event)
    dead = machine.hear()
    assert isinstance(dead, RationalesCollected)
    assert (dead.run_id, dead.epoch, dead.stage, dead.batch) == (RUN_ID, 1, 1, batch.files["batch"])


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_blocked_runs_training_goes_on_and_is_reported_under_the_epoch_that_resumes_it(machine: Machine) -> None:
    run = machine.run(epochs=1)
    trainer = machine.trainer()
    assert RunBlocked not in trainer.groups[0].handlers
    assert deliver(trainer, collected(run)) == []
    under_the_blocked_epoch = machine.hear()
    assert (type(under_the_blocked_epoch), under_the_blocked_epoch.epoch) == (StudentTrained, 1)
    assert [(type(fact), fact.epoch) for fact in deliver(trainer, collected(run, epoch=2))] == [(StudentTrained, 2)]
    assert machine.hears_nothing_more()
