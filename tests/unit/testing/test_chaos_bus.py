"""The chaos is within the promise of a bus: nothing is lost, and what comes twice is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactRef, Manifest
from baldistill.bus.in_process import InProcessBus
from baldistill.bus.ports import Message
from baldistill.events.facts import (
    ExamplesSelected,
    Fact,
    RunState,
    RunStateChanged,
    ScoringShardPlanned,
    ShardScored,
    StagePlanned,
)
from baldistill.events.identity import event_id
from baldistill.events.publishing import FactPublisher
from baldistill.runtime.consumer import ConsumerLoop
from baldistill.runtime.fanout import first_in_lanes, next_in_lane
from baldistill.runtime.handlers import ConsumerGroup, HandlerTable
from baldistill.runtime.run_states import RunStateView
from baldistill.testing.chaos_bus import ChaosBus, ChaosConsumer, Choose, run_until_idle, seeded

REF = ArtifactRef(key="k", sha256="s", size_bytes=1)
SEEDS = st.integers(min_value=0, max_value=2**32)


def message(number: int) -> Message:
    return Message(topic="t", key=f"r{number % 3}", value=b"%d" % number, headers={"ce_id": f"e{number}"})


def received(consumer: ChaosConsumer) -> list[str]:
    texts = []
    while (delivery := consumer.poll(timeout_s=0)) is not None:
        texts.append(delivery.message.value.decode())
        consumer.commit(delivery)
    return texts


def run_chaos(seed: int, **settings: int) -> tuple[list[str], ChaosBus]:
    chaos = ChaosBus(InProcessBus(), choose=seeded(seed), **settings)
    chaos.publish([message(number) for number in range(30)])
    return received(chaos.consumer(group="g", topics=["t"])), chaos


@given(SEEDS)
def test_everything_comes_and_what_comes_twice_is_counted(seed: int) -> None:
    texts, chaos = run_chaos(seed)
    times = Counter(texts)
    assert times.keys() == {str(number) for number in range(30)}
    assert {f"e{text}": count - 1 for text, count in times.items() if count > 1} == dict(chaos.duplicates)
    assert set(chaos.publications.values()) == {1}


@given(SEEDS)
def test_without_duplicates_each_key_keeps_its_order(seed: int) -> None:
    texts, chaos = run_chaos(seed, duplicate_one_in=0)
    assert chaos.injected_duplicates == 0
    for run in range(3):
        assert [int(text) for text in texts if int(text) % 3 == run] == list(range(run, 30, 3))


def test_the_same_seed_is_the_same_chaos_and_others_differ() -> None:
    assert run_chaos(1)[0] == run_chaos(1)[0]
    assert len({tuple(run_chaos(seed)[0]) for seed in range(10)}) == 10


def test_the_number_of_duplicates_has_a_ceiling() -> None:
    assert run_chaos(1, duplicate_one_in=1, most_duplicates=5)[1].injected_duplicates == 5


def test_what_a_closed_member_had_out_comes_again_and_counts_as_a_duplicate() -> None:
    chaos = ChaosBus(InProcessBus(), choose=seeded(1), duplicate_one_in=0)
    chaos.publish([message(0), message(1)])
    leaving = chaos.consumer(group="g", topics=["t"])
    assert leaving.poll(timeout_s=0) is not None
    leaving.close()
    assert sorted(received(chaos.consumer(group="g", topics=["t"]))) == ["0", "1"]
    assert chaos.injected_duplicates == 1


def test_a_retried_delivery_comes_again_with_its_next_attempt() -> None:
    chaos = ChaosBus(InProcessBus(), choose=seeded(1), duplicate_one_in=0)
    chaos.publish([message(0)])
    consumer = chaos.consumer(group="g", topics=["t"])
    for attempt in (1, 2, 3):
        delivery = consumer.poll(timeout_s=0)
        assert delivery is not None
        assert delivery.attempt == attempt
        consumer.retry(delivery, delay_s=1000)


def test_run_states_are_seen_late_but_are_seen() -> None:
    chaos = ChaosBus(InProcessBus(), choose=lambda _: 0)
    reads = []
    for number in range(6):
        chaos.publish([Message(topic="t", key="r", value=b"%d" % number, headers={"ce_id": "e"})])
        reads.append(chaos.read_compacted("t")[0].value)
    assert reads == [b"0", b"0", b"0", b"0", b"4", b"4"]


def test_work_that_never_rests_is_an_error() -> None:
    class Storm:
        def step(self, *, timeout_s: float) -> bool:
            return True

    with pytest.raises(RuntimeError, match="not at rest"):
        run_until_idle([Storm()], choose=seeded(1), most_steps=10)


class Chain:
    """The smallest chain with a windowed fan-out and a fan-in, as the services have it."""

    SHARDS, WINDOW = 7, 2

    def __init__(self, folder: Path, choose: Choose) -> None:
        self.store = LocalArtifactStore(folder)
        self.chaos = ChaosBus(InProcessBus(), choose=choose)
        states = RunStateView(self.chaos)
        tables: dict[str, HandlerTable] = {
            "selector": {StagePlanned: self.on_stage_planned, ShardScored: self.on_shard_scored},
            "selector-worker": {ScoringShardPlanned: self.on_scoring_shard_planned},
            "gateway": {ExamplesSelected: lambda _: []},
        }
        self.loops = [
            ConsumerLoop(bus=self.chaos, group=ConsumerGroup(name=name, handlers=table), run_states=states)
            for name, table in tables.items()
        ]

    def shard_key(self, shard: int) -> str:
        return f"stage/shard-{shard}.json"

    def is_stored(self, shard: int) -> bool:
        return self.store.find_manifest(self.shard_key(shard)) is not None

    def planned(self, shard: int) -> ScoringShardPlanned:
        return ScoringShardPlanned(**RUN, **SHARED, shard=shard, shards=self.SHARDS)

    def selected(self) -> ExamplesSelected:
        return ExamplesSelected(**RUN, spec=REF, plan=REF, selection=REF)

    def on_stage_planned(self, _: StagePlanned) -> Sequence[Fact]:
        if self.store.find_manifest("stage/selection.json") is not None:
            return [self.selected()]
        firsts = first_in_lanes(shards=self.SHARDS, window=self.WINDOW, is_stored=self.is_stored)
        return [self.planned(shard) for shard in firsts]

    def on_scoring_shard_planned(self, event: ScoringShardPlanned) -> Sequence[Fact]:
        self.store.create_manifest(Manifest(key=self.shard_key(event.shard), files={}))
        return [ShardScored(**RUN, **SHARED, shard=event.shard, shards=event.shards, scores=REF)]

    def on_shard_scored(self, event: ShardScored) -> Sequence[Fact]:
        following = next_in_lane(after=event.shard, shards=self.SHARDS, window=self.WINDOW, is_stored=self.is_stored)
        if following is not None:
            return [self.planned(following)]
        if not all(self.is_stored(shard) for shard in range(self.SHARDS)):
            return []
        mine = Manifest(key="stage/selection.json", files={}, attributes={"closed_by": event_id(event)})
        winner = self.store.create_manifest(mine)
        return [self.selected()] if winner == mine else []


RUN: dict[str, Any] = {"tenant": "acme", "run_id": "r1", "epoch": 1, "stage": 1}
SHARED: dict[str, Any] = {"spec": REF, "plan": REF, "candidates": REF, "student": REF}


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_a_chain_ends_whatever_comes_twice_and_a_duplicate_costs_one_event_per_step(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    choose = seeded(seed)
    chain = Chain(tmp_path_factory.mktemp("chain"), choose)
    publish = FactPublisher(chain.chaos, source="policy")
    publish([RunStateChanged(**RUN, state=RunState.RUNNING)])
    publish([StagePlanned(**RUN, spec=REF, plan=REF, previous_student=None)])
    run_until_idle(chain.loops, choose=choose, most_steps=5_000)
    keys = [f"stage/{name}.json" for name in ("selection", *(f"shard-{shard}" for shard in range(Chain.SHARDS)))]
    assert list(chain.store.list_manifests(prefix="stage")) == keys
    assert chain.chaos.publications[event_id(chain.selected())] >= 1
    assert max(chain.chaos.publications.values()) <= 1 + chain.chaos.injected_duplicates
