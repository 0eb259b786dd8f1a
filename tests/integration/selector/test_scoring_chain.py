"""The selector's events over a store and a tiny student: every order of deliveries, one close, no repeated work."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactRef, require_manifest
from baldistill.artifacts.tables import read_table
from baldistill.events.facts import ExamplesSelected, Fact, ScoringShardPlanned, ShardScored
from baldistill.events.identity import event_id
from baldistill.runtime.launching import Job
from baldistill.runtime.progress import no_progress_of_any
from baldistill.testing.small_runs import RUN_ID, TENANT, SmallRun, small_examples
from services.selector.composition import build_selector
from services.trainer.job import run_job

POOL = {"billing": 16, "login": 10, "delivery": 3}
FIRST = {"billing": 4, "login": 2, "delivery": 1}
SECOND = {"billing": 3, "login": 2, "delivery": 2}
LEFT = {name: POOL[name] - FIRST[name] for name in POOL}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A run that has trained its first student: the next stage's selection can be scored."""

    run: SmallRun
    student: ArtifactRef
    handle: Callable[[Fact], list[Fact]]


@pytest.fixture
def prepared(tmp_path: Path, tiny_base: Path) -> Prepared:
    return prepare(tmp_path, base=tiny_base)


def prepare(folder: Path, *, base: Path) -> Prepared:
    run = SmallRun.create(LocalArtifactStore(folder), base=base, pool=POOL, test=dict.fromkeys(POOL, 2))
    handlers = {fact: handler for group in build_selector(store=run.store) for fact, handler in group.handlers.items()}

    def handle(fact: Fact) -> list[Fact]:
        return list(handlers[type(fact)](fact))

    [selected] = handle(run.stage_planned(stage=1, select=FIRST, available=POOL))
    assert isinstance(selected, ExamplesSelected)
    run.rationales_collected(stage=1, examples=small_examples(FIRST, prefix="pool"))
    job = Job(tenant=TENANT, run_id=RUN_ID, epoch=1, stage=1, spec=run.spec)
    run_job(job, lambda: False, store=run.store, progress=no_progress_of_any)
    student = run.store.find_manifest(run.frozen.layout.stage(1).student)
    assert student is not None
    return Prepared(run=run, student=run.store.manifest_ref(student), handle=handle)


def planned(prepared: Prepared, *, epoch: int = 1) -> Fact:
    return prepared.run.stage_planned(stage=2, select=SECOND, available=LEFT, student=prepared.student, epoch=epoch)


def selection_rows(prepared: Prepared, stage: int) -> list[dict[str, Any]]:
    manifest = prepared.run.store.find_manifest(prepared.run.frozen.layout.stage(stage).selection)
    assert manifest is not None
    return list(read_table(prepared.run.store, manifest.files["selection"]))


def deliver_all(prepared: Prepared, facts: list[Fact], *, copies: int = 1) -> Iterator[Fact]:
    """Deliver facts breadth first, each `copies` times, and yield every fact that was published."""
    while facts:
        fact = facts.pop(0)
        for _ in range(copies):
            followed = prepared.handle(fact) if not isinstance(fact, ExamplesSelected) else []
            yield from followed
            facts.extend(one for one in followed if one not in facts)


def test_the_first_stage_is_random_and_leaves_the_pool(prepared: Prepared) -> None:
    first = selection_rows(prepared, 1)
    assert Counter(row["domain"] for row in first) == FIRST
    assert [row["domain"] for row in first] == sorted(row["domain"] for row in first)
    assert all(row["ifd"] is None for row in first)
    published = list(deliver_all(prepared, [planned(prepared)]))
    assert isinstance(published[-1], ExamplesSelected)
    second = selection_rows(prepared, 2)
    assert {row["id"] for row in first}.isdisjoint(row["id"] for row in second)
    assert Counter(row["domain"] for row in second) == SECOND


def test_contested_domains_are_ranked_by_ifd_and_uncontested_ones_taken_whole(prepared: Prepared) -> None:
    list(deliver_all(prepared, [planned(prepared)]))
    rows = selection_rows(prepared, 2)
    for domain in ("billing", "login"):
        scores = [row["ifd"] for row in rows if row["domain"] == domain]
        assert None not in scores
        assert scores == sorted(scores, reverse=True)
    assert [row["ifd"] for row in rows if row["domain"] == "delivery"] == [None, None]


def test_candidates_are_at_most_four_per_wanted_example_and_never_of_uncontested_domains(prepared: Prepared) -> None:
    prepared.handle(planned(prepared))
    store, layout = prepared.run.store, prepared.run.frozen.layout.stage(2)
    candidates = store.find_manifest(layout.candidates)
    assert candidates is not None
    rows = list(read_table(store, candidates.files["candidates"]))
    # 4 x 3 of the 12 that are left; 4 x 2 of the 8 that are left.
    assert Counter(row["domain"] for row in rows) == {"billing": 12, "login": 8}


def test_at_most_a_window_of_shards_is_planned_at_once(prepared: Prepared) -> None:
    first = prepared.handle(planned(prepared))
    assert [(fact.shard, fact.shards) for fact in first if isinstance(fact, ScoringShardPlanned)] == [(0, 5), (1, 5)]
    assert len(first) == 2
    [scored] = prepared.handle(first[0])
    [following] = prepared.handle(scored)
    assert isinstance(following, ScoringShardPlanned)
    assert following.shard == 2


def test_duplicates_close_the_stage_once_and_cost_one_event_a_step(prepared: Prepared) -> None:
    published = list(deliver_all(prepared, [planned(prepared)], copies=2))
    assert len({event_id(fact) for fact in published if isinstance(fact, ExamplesSelected)}) == 1
    # Each of 5 shards was planned, scored and each of these facts delivered twice.
    assert len([fact for fact in published if isinstance(fact, ShardScored)]) == 10
    selected = [fact for fact in published if isinstance(fact, ExamplesSelected)]
    assert 1 <= len(selected) <= 2


def test_a_stored_selection_is_answered_by_the_opening_and_the_closing_event_alone(prepared: Prepared) -> None:
    opening = planned(prepared)
    published = list(deliver_all(prepared, [opening]))
    scored = [fact for fact in published if isinstance(fact, ShardScored)]
    answers = [prepared.handle(fact) for fact in scored]
    assert sum(len(answer) for answer in answers) == 1
    [again] = prepared.handle(opening)
    assert isinstance(again, ExamplesSelected)
    assert event_id(again) == event_id(published[-1])


def test_a_resumed_stage_with_all_shards_stored_closes_itself(prepared: Prepared) -> None:
    facts = prepared.handle(planned(prepared))
    shards = {fact.shards for fact in facts if isinstance(fact, ScoringShardPlanned)}.pop()
    template = facts[0]
    assert isinstance(template, ScoringShardPlanned)
    for shard in range(shards):
        prepared.handle(dataclasses.replace(template, shard=shard))
    resumed = planned(prepared, epoch=2)
    [selected] = prepared.handle(resumed)
    assert isinstance(selected, ExamplesSelected)
    assert selected.epoch == 2


def test_scores_do_not_depend_on_who_came_first(tmp_path: Path, tiny_base: Path) -> None:
    selections = []
    for name, copies in (("once", 1), ("thrice", 3)):
        own = prepare(tmp_path / name, base=tiny_base)
        list(deliver_all(own, [planned(own)], copies=copies))
        selection = own.run.store.find_manifest(own.run.frozen.layout.stage(2).selection)
        assert selection is not None
        selections.append(selection.files["selection"])
    assert selections[0] == selections[1]


def test_a_pooled_stage_takes_the_highest_ifd_of_all_domains(prepared: Prepared) -> None:
    event = prepared.run.stage_planned(stage=2, select={}, available=LEFT, student=prepared.student, pooled_quota=4)
    published = list(deliver_all(prepared, [event]))
    assert isinstance(published[-1], ExamplesSelected)
    store, layout = prepared.run.store, prepared.run.frozen.layout.stage(2)
    candidates = store.find_manifest(layout.candidates)
    assert candidates is not None
    assert candidates.rows == 16
    scores = {
        row["id"]: row["ifd"]
        for shard in range(4)
        for row in read_table(store, require_manifest(store, layout.score_shard(shard)).files["scores"])
    }
    chosen = {row["id"] for row in selection_rows(prepared, 2)}
    best = sorted(scores, key=lambda name: scores[name], reverse=True)[:4]
    assert chosen == set(best)
