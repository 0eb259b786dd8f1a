"""Near-duplicates of test set, pool and batch are kept out of training, and asked for anew where the budget has room."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from baldistill.artifacts.layout import dataset_folder
from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactStore, Manifest, require_manifest
from baldistill.artifacts.schemas import EXAMPLES
from baldistill.artifacts.tables import read_table, store_table
from baldistill.events.facts import AnnotationPhase, AnnotationShardPlanned, Fact, RationalesCollected, ShardAnnotated
from baldistill.events.identity import event_id
from baldistill.testing.databases import open_test_database
from baldistill.testing.teacher_runs import RUN_ID, TENANT, TeacherRun, tickets
from services.teacher_gateway.adapters.protocol_teacher import ProtocolTeacher
from services.teacher_gateway.composition import TeacherGateway, build_teacher_gateway
from services.teacher_gateway.ledger.budgets import BudgetPath
from services.teacher_gateway.ports import CallEnd, CallResult, TeacherCall

LOGIN = tickets("login", 2)
TEACHER = {"kind": "protocol", "rows_per_shard": 2, "concurrency": 2}


@pytest.fixture(autouse=True)
def invented(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the teacher invents, by number of the draw; a test fills it before it asks."""
    texts: list[str] = []
    complete = ProtocolTeacher.complete

    def answer(self: ProtocolTeacher, call: TeacherCall) -> CallResult:
        if call.subject is None or call.subject.example is not None:
            return complete(self, call)
        text = texts[call.subject.draw]
        return CallResult(
            end=CallEnd.ANSWERED,
            text=f"<input>{text}</input><rationale>It is about logins.</rationale><answer>login</answer>"
            if text
            else "???",
            finish_reason="stop",
            model="m",
            prompt_tokens=10,
            completion_tokens=10,
        )

    monkeypatch.setattr(ProtocolTeacher, "complete", answer)
    return texts


class Stage:
    """Two real logins are annotated, others are invented."""

    def __init__(self, folder: Path) -> None:
        self.store: ArtifactStore = LocalArtifactStore(folder / "artifacts")
        self.engine = open_test_database(kind="sqlite", location=str(folder))
        self.gateway: TeacherGateway = build_teacher_gateway(store=self.store, engine=self.engine, environment={})
        self.published: list[Fact] = []

    def run(self, *, deficit: int, calls: int, **synthesis: Any) -> TeacherRun:
        run = TeacherRun.create(
            self.store,
            pool=LOGIN,
            teacher=TEACHER,
            budget={"examples": 2 + deficit, "calls": calls},
            synthesis={"checks": "full", **synthesis},
        )
        self.opening = run.examples_selected(selected=LOGIN, deficits={"login": deficit})
        self.deliver(self.opening)
        return run

    def deliver(self, *facts: Fact) -> None:
        waiting = deque(facts)
        while waiting:
            following = self.handle(waiting.popleft())
            self.published.extend(following)
            waiting.extend(following)

    def handle(self, fact: Fact) -> Sequence[Fact]:
        for group in self.gateway.groups:
            if type(fact) in group.handlers:
                return group.handlers[type(fact)](fact)
        return []

    def batch(self) -> list[dict[str, Any]]:
        (collected,) = [fact for fact in self.published if isinstance(fact, RationalesCollected)]
        return list(read_table(self.store, collected.batch))

    def judged(self, run: TeacherRun) -> list[tuple[str, str]]:
        manifest = require_manifest(self.store, run.frozen.layout.stage(1).batch)
        return [(row["row_id"], row["reason"]) for row in read_table(self.store, manifest.files["judged"])]

    def tally(self, run: TeacherRun) -> Any:
        domains = require_manifest(self.store, run.frozen.layout.stage(1).batch).attributes["domains"]
        assert isinstance(domains, dict)
        return domains["login"]

    def spent_calls(self) -> int:
        (status, *_) = self.gateway.ledger.budget_tree(BudgetPath(tenant=TENANT, run_id=RUN_ID))
        return status.spent.calls

    def close(self) -> None:
        self.gateway.close()
        self.engine.dispose()


@pytest.fixture
def open_stage(tmp_path: Path) -> Iterator[Callable[[str], Stage]]:
    opened: list[Stage] = []

    def make(name: str = "one") -> Stage:
        (tmp_path / name).mkdir()
        opened.append(Stage(tmp_path / name))
        return opened[-1]

    yield make
    for stage in opened:
        stage.close()


def text(number: int) -> str:
    return f"Ticket {number * 7919} {'abcdefgh'[number % 8] * 30}: I cannot sign in since {number * 104729}"


def test_near_duplicates_of_pool_and_batch_are_rejected_with_the_reason_and_kept(
    open_stage: Callable[..., Stage], invented: list[str]
) -> None:
    invented[:] = [text(0), LOGIN[1].input.upper(), f"{text(0)}!", text(1)]
    stage = open_stage()
    run = stage.run(deficit=4, calls=6)
    assert stage.judged(run) == [
        ("synthetic/1/login/0", ""),
        ("synthetic/1/login/1", "near_duplicate_of_pool"),
        ("synthetic/1/login/2", "near_duplicate_of_batch"),
        ("synthetic/1/login/3", ""),
    ]
    assert [row["input"] for row in stage.batch() if row["origin"] == "synthetic"] == [text(0), text(1)]
    assert stage.tally(run)["rejected"] == {"near_duplicate_of_batch": 1, "near_duplicate_of_pool": 1}
    # Without a call beyond the plan nothing is asked anew, and the budget is not said to be exhausted.
    assert (stage.spent_calls(), stage.tally(run)["replacements"]) == (6, 0)


def test_what_was_rejected_is_asked_anew_once_within_the_headroom(
    open_stage: Callable[..., Stage], invented: list[str]
) -> None:
    invented[:] = [text(0), text(0), LOGIN[0].input, "", text(4), text(0)]
    stage = open_stage()
    run = stage.run(deficit=4, calls=8)
    # Three are rejected, two calls are there beyond the plan; the second of those is a near-duplicate again.
    assert stage.judged(run)[4:] == [("synthetic/1/login/4", ""), ("synthetic/1/login/5", "near_duplicate_of_batch")]
    assert (stage.spent_calls(), stage.tally(run)["asked"], stage.tally(run)["replacements"]) == (8, 8, 2)
    assert [row["row_id"] for row in stage.batch() if row["origin"] == "synthetic"] == [
        "synthetic/1/login/0",
        "synthetic/1/login/4",
    ]
    (collected,) = [fact for fact in stage.published if isinstance(fact, RationalesCollected)]
    assert not collected.budget_exhausted


def test_format_replaces_too_and_none_never(open_stage: Callable[..., Stage], invented: list[str]) -> None:
    invented[:] = ["", text(1), text(2)]
    for name, checks, replace, calls in (("a", "format", True, 5), ("b", "none", True, 4), ("c", "format", False, 4)):
        stage = open_stage(name)
        stage.run(deficit=2, calls=9, checks=checks, replace_rejected=replace)
        assert stage.spent_calls() == calls, checks


def test_every_fact_delivered_again_adds_no_call_and_no_second_order(
    open_stage: Callable[..., Stage], invented: list[str]
) -> None:
    invented[:] = [text(0), text(0), "", "", text(4), text(5), text(6)]
    stage = open_stage()
    run = stage.run(deficit=4, calls=9)
    phases = Counter(fact.phase for fact in stage.published if isinstance(fact, AnnotationShardPlanned))
    assert phases == {AnnotationPhase.ANNOTATE: 1, AnnotationPhase.SYNTHESISE: 2, AnnotationPhase.REPLACE: 2}
    closer = require_manifest(stage.store, run.frozen.layout.stage(1).batch).attributes["closed_by"]
    for fact in [stage.opening, *stage.published]:
        again = stage.handle(fact)
        if isinstance(fact, AnnotationShardPlanned):
            assert [type(one) for one in again] == [ShardAnnotated]
        elif fact is stage.opening or event_id(fact) == closer:
            assert [type(one) for one in again] == [RationalesCollected]
        else:
            assert list(again) == []
    assert stage.spent_calls() == 9


def test_a_stage_that_lost_its_events_among_replacements_goes_on_by_its_opening_event(
    open_stage: Callable[..., Stage], invented: list[str]
) -> None:
    invented[:] = [text(0), text(0), "", "", text(4), text(5), text(6)]
    stage = open_stage()
    run = TeacherRun.create(
        stage.store,
        pool=LOGIN,
        teacher=TEACHER,
        budget={"examples": 6, "calls": 9},
        synthesis={"checks": "full"},
    )
    opening = run.examples_selected(selected=LOGIN, deficits={"login": 4})
    seen = []
    for _ in range(5):
        # A crash after each shard: only the opening event comes again.
        planned = stage.handle(opening)[0]
        assert isinstance(planned, AnnotationShardPlanned)
        seen.append(planned.identity_key())
        (annotated,) = stage.handle(planned)
        if planned.phase is AnnotationPhase.SYNTHESISE and planned.shard == 0:
            # An annotation's fact that comes late closes nothing early.
            assert stage.handle(annotated) == []
    assert seen == ["annotate-0", "synthesise-0", "synthesise-1", "replace-0", "replace-1"]
    assert [type(fact) for fact in stage.handle(opening)] == [RationalesCollected]
    assert stage.spent_calls() == 9


def test_two_runs_make_the_same_bytes(open_stage: Callable[..., Stage], invented: list[str]) -> None:
    invented[:] = [text(0), text(0), LOGIN[0].input, "", text(4), text(5), text(6)]
    digests = []
    for name in ("one", "two"):
        stage = open_stage(name)
        run = stage.run(deficit=4, calls=9)
        batch: Manifest = require_manifest(stage.store, run.frozen.layout.stage(1).batch)
        shards = [fact.annotations.sha256 for fact in stage.published if isinstance(fact, ShardAnnotated)]
        digests.append([*shards, *(file.sha256 for _, file in sorted(batch.files.items()))])
    assert digests[0] == digests[1]
    assert len(digests[0]) == 7


def test_what_is_near_to_the_test_set_is_rejected_before_all_else(
    open_stage: Callable[..., Stage], invented: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_test_rows(store: ArtifactStore, **table: Any) -> Any:
        if table["name"] == "test" and table["schema"] is EXAMPLES:
            assert table["folder"] == dataset_folder(tenant=TENANT, name="tickets", version="v1")
            table["rows"] = [{"id": "t-0", "domain": "login", "input": text(3), "answer": "login"}]
        return store_table(store, **table)

    monkeypatch.setattr("baldistill.testing.teacher_runs.store_table", with_test_rows)
    invented[:] = [text(3).lower(), text(1)]
    stage = open_stage()
    run = stage.run(deficit=2, calls=4)
    assert [reason for _, reason in stage.judged(run)] == ["near_duplicate_of_test", ""]
