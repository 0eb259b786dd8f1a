"""Deliveries that come twice, late and in any order leave the artifacts of an undisturbed run (DESIGN 3).

The four services as they are composed for production, over a bus that does its worst. What is left to chance is a
function of the seed: student jobs, too, take a step only when they are chosen to.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactStore, require_manifest
from baldistill.bus.in_process import InProcessBus
from baldistill.bus.ports import Bus, BusConsumer, BusReader, Delivery, Message
from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import migrate
from baldistill.datasets.importing import import_dataset
from baldistill.events.codec import EVENT_ID_HEADER
from baldistill.events.facts import RunState
from baldistill.events.publishing import FactPublisher
from baldistill.pricing.book import PriceBook
from baldistill.runtime.consumer import ConsumerLoop
from baldistill.runtime.outcomes import Outcome, OutcomeCounts
from baldistill.runtime.progress import always
from baldistill.runtime.run_states import RunStateView
from baldistill.specs.runspec import RunSpec
from baldistill.testing.chaos_bus import ChaosBus, run_until_idle, seeded
from services.embedded import EmbeddedSystem
from services.policy.adapters.local_base_models import LocalBaseModels
from services.policy.composition import build_policy
from services.policy.submission import Proposal, announce, propose, submit
from services.selector.composition import build_selector
from services.teacher_gateway.composition import build_teacher_gateway
from services.trainer.composition import Trainer, build_trainer

# Two domains with enough rows to choose from, three that need new ones: at a window of 2 both
# fan-outs of the teacher's work, and the scoring of stage 2, have lanes of more than one shard.
SIZES = {"billing": 70, "login": 60, "gift": 6, "refund": 6, "shipping": 6}
SPEC: dict[str, Any] = {
    "name": "disturbed",
    "dataset": {"name": "tickets"},
    "method": "baldistill_n",
    "stages": 2,
    "threads": 1,
    "budget": {"examples": 100},
    "teacher": {
        "kind": "protocol",
        "max_completion_tokens": 64,
        "rows_per_shard": 8,
        "protocol": {"wrong_label_share": 0.1},
    },
    "selection": {"candidates_per_pick": 2, "max_new_tokens": 4, "rows_per_shard": 16, "shards_in_flight": 2},
    "student": {
        "dtype": "float32",
        "training": {"epochs": 1, "batch_size": 16, "micro_batch_size": 16, "checkpoint_every_steps": 3},
    },
    "evaluation": {"parity_items": 0, "per_domain": 2, "final": 10, "max_new_tokens": 4, "batch_size": 4},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What all runs start from. undisturbed: what the embedded system left of the same spec."""

    train: Path
    spec: RunSpec
    undisturbed: Mapping[str, Any]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Material:
    folder = tmp_path_factory.mktemp("undisturbed")
    train = folder / "train.jsonl"
    train.write_text("".join(f"{json.dumps(row)}\n" for row in _rows()))
    spec = RunSpec.model_validate({**SPEC, "student": {**SPEC["student"], "base": str(tiny_base)}})
    with Home(folder, train=train, spec=spec) as home:
        with EmbeddedSystem(store=home.store, engine=home.engine, locks=folder / "locks") as system:
            assert system.work_on(home.proposal).state is RunState.COMPLETED
        undisturbed = home.artifacts()
    return Material(train=train, spec=spec, undisturbed=undisturbed)


@pytest.mark.parametrize("seed", range(6))
def test_any_delivery_leaves_the_same_artifacts_at_one_event_a_step(
    seed: int, material: Material, tmp_path: Path
) -> None:
    with Home(tmp_path, train=material.train, spec=material.spec) as home:
        chaos = ChaosBus(InProcessBus(partitions=1 + seed), choose=seeded(seed), duplicate_one_in=2 + seed % 2)
        bus = TracedBus(chaos)
        counts = home.work_off(bus, seed=seed)

        assert home.artifacts() == material.undisturbed
        assert counts.total(Outcome.RETRIED) == counts.total(Outcome.DEAD_LETTERED) == 0
        assert chaos.injected_duplicates >= 15
        assert all(count <= 1 + chaos.injected_duplicates for count in chaos.publications.values())
        # Sharper: every fact once for the run itself, and once at most for each of the duplicates.
        assert set(bus.published.values()) == {1}


def test_the_run_has_several_lanes_and_shards_in_every_fan_out(material: Material) -> None:
    for fan_out in ("scores/shard", "annotations/annotate", "annotations/synthesise"):
        shards = [key for key in material.undisturbed if f"stage-02/{fan_out}" in key]
        assert len(shards) > material.spec.selection.shards_in_flight > 1


class Home:
    """A folder with an imported data set and a submitted run."""

    def __init__(self, folder: Path, *, train: Path, spec: RunSpec) -> None:
        self._folder = folder
        self._exit = ExitStack()
        self.store: ArtifactStore = LocalArtifactStore(folder / "artifacts")
        self.engine = open_database(sqlite_url(folder / "state.db"))
        self._exit.callback(self.engine.dispose)
        migrate(self.engine)
        import_dataset(self.store, tenant=spec.tenant, name=spec.dataset.name, train=train, test=None)
        self.proposal: Proposal = propose(
            spec, store=self.store, base_models=LocalBaseModels(), prices=PriceBook.at(None)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def artifacts(self) -> dict[str, Any]:
        """Return what is there by manifest: the sha256 of every data file and all that is said about them.

        Which of several equal events closed a fan-in is the one thing that may differ.
        """
        found: dict[str, Any] = {}
        for key in self.store.list_manifests(prefix=self.proposal.frozen.layout.folder):
            manifest = require_manifest(self.store, key)
            attributes = {name: value for name, value in manifest.attributes.items() if name != "closed_by"}
            files = {role: self.store.local_path(ref).name + ref.sha256 for role, ref in manifest.files.items()}
            found[key] = (files, attributes, manifest.rows)
        return found

    def work_off(self, bus: Bus, *, seed: int) -> OutcomeCounts:
        """Run all four services over the bus until nothing is left to do."""
        counts = OutcomeCounts()
        with ExitStack() as exit_stack:
            policy = build_policy(store=self.store, engine=self.engine, now=lambda: datetime.now(UTC))
            # Two of each, as two processes are: they share nothing but bus, store and database.
            gateways = [
                build_teacher_gateway(store=self.store, engine=self.engine, locks=self._folder / "locks")
                for _ in range(2)
            ]
            for gateway in gateways:
                exit_stack.callback(gateway.close)
            jobs = JobsInTurn()
            trainer = build_trainer(
                store=self.store,
                publish=FactPublisher(bus, source="trainer"),
                on_job_failed=jobs.note_failure,
                progress=always(jobs.wait_for_turn),
            )
            exit_stack.callback(trainer.close)
            jobs.drive(trainer)
            exit_stack.callback(jobs.let_go)
            selectors = [build_selector(store=self.store) for _ in range(2)]
            groups = [group for one in (*selectors, *(one.groups for one in gateways)) for group in one]
            groups += trainer.groups * 2
            loops = [
                ConsumerLoop(bus=bus, group=group, run_states=RunStateView(bus), view_lag_delay_s=0, counter=counts)
                # Two members each: partitions are shared, and a duplicate may come to the other one.
                for group in groups
            ]
            loops.append(
                ConsumerLoop(
                    bus=bus, group=policy.group, run_states=None, dead_letters=policy.dead_letters, counter=counts
                )
            )
            record, _ = submit(self.proposal, store=self.store, registry=policy.registry)
            FactPublisher(bus, source="test")(announce(record))
            run_until_idle([*loops, jobs], choose=seeded(1000 + seed))
            for loop in loops:
                loop.close()
        return counts


class JobsInTurn:
    """Student jobs as one more thing that takes a step when chosen: from one report of progress to the next."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting = False
        self._turns = 0
        self._free = False
        self._trainer: Trainer | None = None
        self.failures: list[Exception] = []

    def drive(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def note_failure(self, _job: object, error: Exception) -> None:
        self.failures.append(error)

    def wait_for_turn(self, **_progress: object) -> None:
        """Called by the job's thread at each report of progress."""
        with self._changed:
            self._waiting = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._turns > 0 or self._free)
            self._waiting = False
            self._turns -= 1

    def step(self, *, timeout_s: float) -> bool:
        """Let the job at work reach its next report, or its end; False where there is none."""
        assert self._trainer is not None
        if self.failures:
            raise self.failures[0]
        if not self._trainer.busy():
            return False
        self._until_it_waits()
        with self._changed:
            if self._waiting:
                self._turns, self._waiting = 1, False
                self._changed.notify_all()
        self._until_it_waits()
        return True

    def let_go(self) -> None:
        """Let jobs run free, so that they can be stopped."""
        with self._changed:
            self._free = True
            self._changed.notify_all()

    def _until_it_waits(self) -> None:
        assert self._trainer is not None
        with self._changed:
            while not self._waiting and self._trainer.busy():
                self._changed.wait(timeout=0.002)


class TracedBus:
    """Tells what each publication goes back to. In one thread: what is published while a delivery is out answers it.

    published: how often, by event id and origin. The origin is None where everything came once, else the number of the
    injected duplicate that is nearest to the publication on its way back to the run's first fact.
    """

    def __init__(self, chaos: ChaosBus) -> None:
        self._chaos = chaos
        self._origins: dict[int, int | None] = {}
        self._handled: set[tuple[str, str, int, int]] = set()
        self._duplicates = 0
        self._current: int | None = None
        self._kept: list[Message] = []
        self.published: Counter[tuple[str, int | None]] = Counter()

    def publish(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._origins[id(message)] = self._current
            self.published[message.headers[EVENT_ID_HEADER], self._current] += 1
        # Kept alive: an id of a message is its own only as long as the message lives.
        self._kept.extend(messages)
        self._chaos.publish(messages)

    def consumer(self, *, group: str, topics: Sequence[str]) -> TracedConsumer:
        return TracedConsumer(self, self._chaos.consumer(group=group, topics=topics), group=group)

    def tail(self, topics: Sequence[str]) -> BusReader:
        return self._chaos.tail(topics)

    def read_compacted(self, topic: str) -> Sequence[Message]:
        return self._chaos.read_compacted(topic)

    def newest(self, topic: str, *, key: str) -> Message | None:
        return self._chaos.newest(topic, key=key)

    def lag(self, group: str) -> int:
        return self._chaos.lag(group)

    def close(self) -> None:
        self._chaos.close()

    def begin(self, delivery: Delivery, *, group: str) -> None:
        if _place(delivery, group) in self._handled:
            self._duplicates += 1
            self._current = self._duplicates
        else:
            self._current = self._origins[id(delivery.message)]

    def end(self, delivery: Delivery, *, group: str, handled: bool) -> None:
        self._current = None
        if handled:
            self._handled.add(_place(delivery, group))


class TracedConsumer:
    """A member whose deliveries begin when they are polled and end when they are committed or given back."""

    def __init__(self, bus: TracedBus, consumer: BusConsumer, *, group: str) -> None:
        self._bus = bus
        self._consumer = consumer
        self._group = group

    def poll(self, *, timeout_s: float) -> Delivery | None:
        delivery = self._consumer.poll(timeout_s=timeout_s)
        if delivery is not None:
            self._bus.begin(delivery, group=self._group)
        return delivery

    def commit(self, delivery: Delivery) -> None:
        self._consumer.commit(delivery)
        self._bus.end(delivery, group=self._group, handled=True)

    def retry(self, delivery: Delivery, *, delay_s: float, count_attempt: bool = True) -> None:
        self._consumer.retry(delivery, delay_s=delay_s, count_attempt=count_attempt)
        self._bus.end(delivery, group=self._group, handled=False)

    def close(self) -> None:
        self._consumer.close()


def _place(delivery: Delivery, group: str) -> tuple[str, str, int, int]:
    return group, delivery.message.topic, delivery.partition, delivery.position


def _rows() -> Iterator[dict[str, str]]:
    for domain, size in SIZES.items():
        for number in range(size):
            text = f"ticket number {number} about {domain} with code {number * 7}"
            yield {"id": f"{domain}-{number}", "domain": domain, "input": text, "answer": domain}
