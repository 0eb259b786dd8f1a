"""The gateway's part of a stage: two phases, one close, nothing paid twice, whatever is delivered again."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactStore, require_manifest
from baldistill.artifacts.tables import read_table
from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import migrate
from baldistill.events.facts import (
    AnnotationPhase,
    AnnotationShardPlanned,
    CeilingReached,
    ExamplesSelected,
    Fact,
    RationalesCollected,
    ShardAnnotated,
    StageFailed,
)
from baldistill.events.identity import event_id
from baldistill.testing.teacher_runs import RUN_ID, TENANT, TeacherRun, tickets
from services.teacher_gateway.composition import TeacherGateway, build_teacher_gateway, run_budgets
from services.teacher_gateway.errors import BudgetFrozen
from services.teacher_gateway.ledger.budgets import BudgetPath, BudgetStatus
from services.teacher_gateway.ledger.holds import HoldState

BILLING, LOGIN = tickets("billing", 9), tickets("login", 2)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return LocalArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(sqlite_url(tmp_path / "baldistill.db"))
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def gateway(store: ArtifactStore, engine: Engine, tmp_path: Path) -> Iterator[TeacherGateway]:
    gateway = build_teacher_gateway(store=store, engine=engine, locks=tmp_path / "locks", environment={})
    yield gateway
    gateway.close()


def handle(gateway: TeacherGateway, fact: Fact) -> Sequence[Fact]:
    for group in gateway.groups:
        if type(fact) in group.handlers:
            return group.handlers[type(fact)](fact)
    return []


def run_all(gateway: TeacherGateway, *facts: Fact) -> list[Fact]:
    """Deliver facts and all that follows, in order; return everything that was published."""
    published: list[Fact] = []
    waiting = deque(facts)
    while waiting:
        following = handle(gateway, waiting.popleft())
        published.extend(following)
        waiting.extend(following)
    return published


def last(facts: Sequence[Fact]) -> RationalesCollected:
    (collected,) = [fact for fact in facts if isinstance(fact, RationalesCollected)]
    return collected


def rows(store: ArtifactStore, collected: RationalesCollected) -> list[dict[str, Any]]:
    return list(read_table(store, collected.batch))


def tallies(store: ArtifactStore, run: TeacherRun) -> dict[str, Any]:
    return cast("dict[str, Any]", require_manifest(store, run.frozen.layout.stage(1).batch).attributes["domains"])


def spent(engine: Engine) -> BudgetStatus:
    return run_budgets(engine, tenant=TENANT, run_id=RUN_ID)[0]


def test_a_stage_annotates_what_is_selected_and_synthesises_what_is_missing(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine
) -> None:
    run = TeacherRun.create(store, pool=[*BILLING, *LOGIN])
    event = run.examples_selected(selected=[*BILLING[:7], *LOGIN], deficits={"login": 5})
    batch = rows(store, last(run_all(gateway, event)))
    assert Counter((row["domain"], row["origin"]) for row in batch) == {
        ("billing", "real"): 7,
        ("login", "real"): 2,
        ("login", "synthetic"): 5,
    }
    assert all(row["rationale"] and row["answer"] == row["domain"] for row in batch)
    originals = {example.input for example in LOGIN}
    synthetic = [row["input"] for row in batch if row["origin"] == "synthetic"]
    assert len(set(synthetic)) == 5
    assert not originals & set(synthetic)
    assert (spent(engine).spent.calls, spent(engine).held.calls) == (14, 0)


def test_the_batch_says_what_became_of_each_domains_requests(gateway: TeacherGateway, store: ArtifactStore) -> None:
    run = TeacherRun.create(store, pool=[*BILLING, *LOGIN])
    event = run.examples_selected(selected=[*BILLING[:3], *LOGIN], deficits={"login": 1})
    run_all(gateway, event)
    assert tallies(store, run) == {
        "billing": {
            "asked": 3,
            "replacements": 0,
            "reused": 0,
            "accepted": 3,
            "rejected": {},
            "unanswered": 0,
            "unanswered_reasons": {},
            "trained": 3,
            "origins": {"real": 3},
        },
        "login": {
            "asked": 3,
            "replacements": 0,
            "reused": 0,
            "accepted": 3,
            "rejected": {},
            "unanswered": 0,
            "unanswered_reasons": {},
            "trained": 3,
            "origins": {"real": 2, "synthetic": 1},
        },
    }


def test_synthesis_is_planned_only_when_annotation_is_complete(gateway: TeacherGateway, store: ArtifactStore) -> None:
    run = TeacherRun.create(store, pool=[*BILLING, *LOGIN])
    facts = run_all(gateway, run.examples_selected(selected=BILLING[:6], deficits={"login": 6}))
    steps = [
        (type(fact).__name__, fact.phase) for fact in facts if isinstance(fact, AnnotationShardPlanned | ShardAnnotated)
    ]
    annotate, synthesise = AnnotationPhase.ANNOTATE, AnnotationPhase.SYNTHESISE
    assert steps == [
        *[("AnnotationShardPlanned", annotate)] * 2,
        *[("ShardAnnotated", annotate)] * 2,
        *[("AnnotationShardPlanned", synthesise)] * 2,
        *[("ShardAnnotated", synthesise)] * 2,
    ]


def test_the_window_bounds_what_is_planned_at_once(gateway: TeacherGateway, store: ArtifactStore) -> None:
    run = TeacherRun.create(store, pool=BILLING, selection={"shards_in_flight": 2})
    opening = run.examples_selected(selected=BILLING)  # 9 rows are 3 shards of 4
    planned = handle(gateway, opening)
    assert [fact.identity_key() for fact in planned] == ["annotate-0", "annotate-1"]
    (annotated,) = handle(gateway, planned[0])
    (following,) = handle(gateway, annotated)
    assert following.identity_key() == "annotate-2"


def test_every_fact_delivered_again_adds_at_most_one_fact_of_each_kind_and_no_call(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine
) -> None:
    run = TeacherRun.create(store, pool=[*BILLING, *LOGIN])
    opening = run.examples_selected(selected=BILLING[:6], deficits={"login": 6})
    facts = run_all(gateway, opening)
    closed = last(facts)
    closer_id = require_manifest(store, run.frozen.layout.stage(1).batch).attributes["closed_by"]
    for fact in [opening, *facts]:
        again = handle(gateway, fact)
        if isinstance(fact, AnnotationShardPlanned):
            assert [type(one) for one in again] == [ShardAnnotated]
        elif fact is opening or event_id(fact) == closer_id:
            assert again == [closed]
        else:
            assert again == []
    assert spent(engine).spent.calls == 12


def test_a_run_that_lost_its_events_goes_on_where_it_was(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine
) -> None:
    run = TeacherRun.create(store, pool=[*BILLING, *LOGIN])
    opening = run.examples_selected(selected=BILLING[:6], deficits={"login": 6})
    seen: set[str] = set()
    # A crash after each step: only the opening event comes again, as it does when a run is resumed.
    for _ in range(4):
        for fact in handle(gateway, opening):
            assert isinstance(fact, AnnotationShardPlanned)
            seen.add(fact.identity_key())
            handle(gateway, fact)
            break
    assert seen == {"annotate-0", "annotate-1", "synthesise-0", "synthesise-1"}
    # All shards are stored, nobody closed: the opening event does.
    assert [type(fact) for fact in handle(gateway, opening)] == [RationalesCollected]
    assert spent(engine).spent.calls == 12


def test_an_answer_is_not_bought_again_when_its_shard_was_lost(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine
) -> None:
    run = TeacherRun.create(store, pool=BILLING)
    opening = run.examples_selected(selected=BILLING)
    first = rows(store, last(run_all(gateway, opening)))
    store.delete_folder(prefix=run.frozen.layout.stage(1).folder + "/annotations")
    store.delete_folder(prefix=run.frozen.layout.stage(1).folder)
    opening = run.examples_selected(selected=BILLING)
    assert rows(store, last(run_all(gateway, opening))) == first
    assert spent(engine).spent.calls == 9


def test_rejected_replies_are_paid_for_and_never_trained_on(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine
) -> None:
    teacher = {"kind": "protocol", "rows_per_shard": 4, "protocol": {"wrong_label_share": 0.5}}
    run = TeacherRun.create(store, pool=[*BILLING, *LOGIN], teacher=teacher)
    collected = last(run_all(gateway, run.examples_selected(selected=BILLING)))
    tally = tallies(store, run)["billing"]
    assert tally["asked"] == 9
    assert 0 < tally["rejected"]["wrong_answer"] < 9
    assert tally["accepted"] == tally["trained"] == collected.batch.rows == 9 - tally["rejected"]["wrong_answer"]
    assert spent(engine).spent.calls == 9


def test_a_stage_of_rejected_replies_only_fails_with_the_reason(gateway: TeacherGateway, store: ArtifactStore) -> None:
    run = TeacherRun.create(store, pool=BILLING, teacher={"kind": "protocol", "protocol": {"unparsable_share": 1.0}})
    opening = run.examples_selected(selected=BILLING)
    failed = run_all(gateway, opening)[-1]
    assert isinstance(failed, StageFailed)
    assert failed.reason.startswith("all 9 replies of stage 1 were rejected (unparsable: 9);")
    assert handle(gateway, opening) == [failed]


def test_server_errors_are_tried_again_and_cost_nothing(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine
) -> None:
    teacher = {"kind": "protocol", "protocol": {"server_error_share": 0.2}, "max_attempts": 10}
    run = TeacherRun.create(store, pool=BILLING[:4], teacher=teacher, budget={"examples": 4, "calls": 4})
    assert last(run_all(gateway, run.examples_selected(selected=BILLING[:4]))).batch.rows == 4
    attempts = gateway.attempts(tenant=TENANT, run_id=RUN_ID)
    assert Counter(one.state for one in attempts)[HoldState.SETTLED] == 4
    assert spent(engine).spent.calls == 4


def test_an_exhausted_budget_ends_the_stage_with_what_there_is(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine
) -> None:
    run = TeacherRun.create(store, pool=[*BILLING, *LOGIN], budget={"examples": 20, "calls": 7})
    collected = last(run_all(gateway, run.examples_selected(selected=BILLING, deficits={"login": 2})))
    assert collected.budget_exhausted
    assert collected.batch.rows == 7
    assert spent(engine).spent.calls == 7


def test_a_run_that_is_to_pause_waits_for_a_top_up_and_keeps_its_answers(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine
) -> None:
    run = TeacherRun.create(store, pool=BILLING, budget={"examples": 20, "calls": 7, "on_exhausted": "pause"})
    opening = run.examples_selected(selected=BILLING)
    waiting = [fact for fact in run_all(gateway, opening) if isinstance(fact, CeilingReached)]
    assert waiting
    assert all("run 'r1'" in fact.reason and "7 of 7 spent" in fact.reason for fact in waiting)
    gateway.ledger.top_up(BudgetPath(tenant=TENANT, run_id=RUN_ID), calls=2, actor="anna")
    assert last(run_all(gateway, opening)).batch.rows == 9
    assert spent(engine).spent.calls == 9


def test_a_paused_run_sends_nothing(gateway: TeacherGateway, store: ArtifactStore, engine: Engine) -> None:
    run = TeacherRun.create(store, pool=BILLING)
    gateway.freeze_run(run.frozen, actor="anna")
    with pytest.raises(BudgetFrozen):
        run_all(gateway, run.examples_selected(selected=BILLING))
    assert spent(engine).spent.calls == 0
    gateway.unfreeze_run(run.frozen, actor="anna")
    assert last(run_all(gateway, run.examples_selected(selected=BILLING))).batch.rows == 9


def test_labels_alone_cost_nothing(gateway: TeacherGateway, store: ArtifactStore, engine: Engine) -> None:
    run = TeacherRun.create(store, pool=BILLING, method="random_ft")
    (collected,) = run_all(gateway, run.examples_selected(selected=BILLING[:5]))
    batch = rows(store, last([collected]))
    assert [(row["row_id"], row["rationale"]) for row in batch] == [(one.example_id, "") for one in BILLING[:5]]
    assert spent(engine).ceilings.calls == 0


def test_duplicates_repeat_the_rows_of_all_stages_the_least_repeated_first(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine
) -> None:
    run = TeacherRun.create(store, pool=[*BILLING, *LOGIN], method="duplicate_ft_cot")
    one = last(run_all(gateway, run.examples_selected(selected=LOGIN, deficits={"login": 3})))
    assert [(row["row_id"], row["origin"]) for row in rows(store, one)] == [
        ("login-0", "real"),
        ("login-1", "real"),
        ("login-0", "duplicate"),
        ("login-1", "duplicate"),
        ("login-0", "duplicate"),
    ]
    two = last(run_all(gateway, run.examples_selected(selected=[], stage=2, deficits={"login": 2})))
    assert [row["row_id"] for row in rows(store, two)] == ["login-1", "login-0"]
    assert len({row["rationale"] for row in rows(store, one) if row["row_id"] == "login-0"}) == 1
    assert spent(engine).spent.calls == 2


def test_two_runs_of_one_spec_make_the_same_files(tmp_path: Path) -> None:
    digests = []
    for place in ("one", "two"):
        store = LocalArtifactStore(tmp_path / place)
        engine = open_database(sqlite_url(tmp_path / f"{place}.db"))
        migrate(engine)
        gateway = build_teacher_gateway(store=store, engine=engine, environment={})
        run = TeacherRun.create(store, pool=[*BILLING, *LOGIN])
        opening: ExamplesSelected = run.examples_selected(selected=BILLING[:6], deficits={"login": 6})
        facts = run_all(gateway, opening)
        shards = [fact.annotations.sha256 for fact in facts if isinstance(fact, ShardAnnotated)]
        digests.append([*shards, last(facts).batch.sha256])
        gateway.close()
        engine.dispose()
    assert digests[0] == digests[1]
