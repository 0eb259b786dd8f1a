"""Limits of a teacher's key over two gateways that share a database: a run never has more calls under way than one key may."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.events.facts import AnnotationShardPlanned, RationalesCollected, ShardAnnotated
from baldistill.testing.databases import DATABASE_KINDS, new_location, open_test_database
from baldistill.testing.teacher_runs import RUN_ID, TENANT, TeacherRun, tickets
from services.teacher_gateway.adapters.protocol_teacher import ProtocolTeacher
from services.teacher_gateway.composition import TeacherGateway, build_teacher_gateway
from services.teacher_gateway.ledger.budgets import BudgetPath
from services.teacher_gateway.ports import CallResult, TeacherCall

BILLING = tickets("billing", 12)


class Provider:
    """Counts the calls that it has at once, over all gateways."""

    def __init__(self) -> None:
        self.at_once = 0
        self.most = 0
        self.calls = 0
        self._lock = threading.Lock()

    def answer(self, teacher: ProtocolTeacher, call: TeacherCall) -> CallResult:
        with self._lock:
            self.at_once += 1
            self.calls += 1
            self.most = max(self.most, self.at_once)
        time.sleep(0.02)
        with self._lock:
            self.at_once -= 1
        return ANSWER(teacher, call)


ANSWER = ProtocolTeacher.complete


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    provider = Provider()

    def complete(teacher: ProtocolTeacher, call: TeacherCall) -> CallResult:
        return provider.answer(teacher, call)

    monkeypatch.setattr(ProtocolTeacher, "complete", complete)
    return provider


@pytest.fixture(params=DATABASE_KINDS)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with new_location(request.param, tmp_path) as location:
        engine = open_test_database(kind=request.param, location=location)
        yield engine
        engine.dispose()


def test_two_gateways_share_a_keys_calls_at_once_and_all_rows_are_answered(
    engine: Engine, tmp_path: Path, provider: Provider
) -> None:
    store = LocalArtifactStore(tmp_path / "artifacts")
    gateways = [build_teacher_gateway(store=store, engine=engine, environment={}) for _ in range(2)]
    teacher = {"kind": "protocol", "rows_per_shard": 6, "concurrency": 6, "key_limits": {"calls_at_once": 2}}
    run = TeacherRun.create(store, pool=BILLING, teacher=teacher)
    try:
        facts = deque(gateways[0].groups[0].handlers[type(run.submitted())](run.submitted()))
        assert not facts
        opening = run.examples_selected(selected=BILLING)
        planned = gateways[0].groups[0].handlers[type(opening)](opening)
        annotated = both_at_once(gateways, [fact for fact in planned if isinstance(fact, AnnotationShardPlanned)])
        following = [one for fact in annotated for one in gateways[0].groups[0].handlers[ShardAnnotated](fact)]
        assert [type(fact) for fact in following] == [RationalesCollected]
        assert following[0].batch.rows == 12  # type: ignore[attr-defined]
        assert provider.most <= 2
        assert provider.calls == 12
        (status, *_) = gateways[0].budget_tree(tenant=TENANT, run_id=RUN_ID)
        assert (status.path, status.spent.calls, status.held.calls) == (BudgetPath(tenant=TENANT, run_id=RUN_ID), 12, 0)
    finally:
        for gateway in gateways:
            gateway.close()


def both_at_once(gateways: list[TeacherGateway], shards: list[AnnotationShardPlanned]) -> list[ShardAnnotated]:
    """Let each gateway do one shard, at the same time."""
    assert len(shards) == len(gateways) == 2
    annotated: list[ShardAnnotated] = []

    def work(gateway: TeacherGateway, shard: AnnotationShardPlanned) -> None:
        for fact in gateway.groups[1].handlers[AnnotationShardPlanned](shard):
            assert isinstance(fact, ShardAnnotated)
            annotated.append(fact)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(gateways, shards, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return annotated
