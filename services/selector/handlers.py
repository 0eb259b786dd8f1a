"""How the selector answers facts: candidates, scoring in a window, one close (DESIGN 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from baldistill.artifacts.layout import StageLayout
from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.events.facts import ExamplesSelected, Fact, ScoringShardPlanned, ShardScored, StagePlanned
from baldistill.events.identity import event_id
from baldistill.runtime.fanout import first_in_lanes, next_in_lane, shard_count
from baldistill.runtime.progress import ProgressSource
from services.selector.ports import StudentScorer
from services.selector.selection import ensure_candidates, select_at_random, select_by_score
from services.selector.shards import score_shard
from services.selector.stages import Stage
from services.selector.strategies import strategy_of


def on_stage_planned(event: StagePlanned, *, store: ArtifactStore) -> Sequence[Fact]:
    """Select at random where nothing is to be scored, else plan the first scoring shards that are missing.

    Redelivered: the selection where there is one; where all shards are stored, this event closes it itself.
    """
    stage = Stage.load(store, spec=event.spec, plan=event.plan)
    if (selection := stage.find_selection()) is not None:
        return [_examples_selected(event, selection)]
    own_id = event_id(event)
    scored = strategy_of(stage.frozen).value is not None and event.previous_student is not None
    candidates = ensure_candidates(stage) if scored else None
    if candidates is None or event.previous_student is None:
        return [_examples_selected(event, select_at_random(stage, closed_by=own_id))]
    settings = stage.frozen.spec.selection
    shards = shard_count(rows=candidates.rows, rows_per_shard=settings.rows_per_shard)
    missing = first_in_lanes(
        shards=shards,
        window=settings.shards_in_flight,
        is_stored=lambda shard: _is_scored(store, stage.layout, shard),
    )
    if not missing:
        closed = select_by_score(stage, candidates=candidates, shards=shards, closed_by=own_id)
        return [_examples_selected(event, closed)]
    return [
        ScoringShardPlanned(
            **_stage_identity(event),
            shard=shard,
            shards=shards,
            candidates=candidates.files["candidates"],
            student=event.previous_student,
        )
        for shard in missing
    ]


def on_scoring_shard_planned(
    event: ScoringShardPlanned, *, store: ArtifactStore, scorer: StudentScorer, progress: ProgressSource
) -> Sequence[Fact]:
    """Score one shard, unless it is stored already."""
    stage = Stage.load(store, spec=event.spec, plan=event.plan)
    stored = store.find_manifest(stage.layout.score_shard(event.shard)) or score_shard(
        stage, event, scorer=scorer, progress=progress(event)
    )
    return [
        ShardScored(
            **_stage_identity(event),
            shard=event.shard,
            shards=event.shards,
            candidates=event.candidates,
            student=event.student,
            scores=stored.files["scores"],
        )
    ]


def on_shard_scored(event: ShardScored, *, store: ArtifactStore) -> Sequence[Fact]:
    """Plan the next shard of the lane; the event that sees all shards stored closes the stage's selection."""
    stage = Stage.load(store, spec=event.spec, plan=event.plan)
    if (selection := stage.find_selection()) is not None:
        return _answer_if_closed_by(event, selection)
    following = next_in_lane(
        after=event.shard,
        shards=event.shards,
        window=stage.frozen.spec.selection.shards_in_flight,
        is_stored=lambda shard: _is_scored(store, stage.layout, shard),
    )
    if following is not None:
        return [
            ScoringShardPlanned(
                **_stage_identity(event),
                shard=following,
                shards=event.shards,
                candidates=event.candidates,
                student=event.student,
            )
        ]
    candidates = store.find_manifest(stage.layout.candidates)
    if candidates is None or not all(_is_scored(store, stage.layout, shard) for shard in range(event.shards)):
        return []
    closed = select_by_score(stage, candidates=candidates, shards=event.shards, closed_by=event_id(event))
    return _answer_if_closed_by(event, closed)


def _answer_if_closed_by(event: ShardScored, selection: Manifest) -> Sequence[Fact]:
    closed_by_it = selection.attributes["closed_by"] == event_id(event)
    return [_examples_selected(event, selection)] if closed_by_it else []


def _examples_selected(event: StagePlanned | ShardScored, selection: Manifest) -> ExamplesSelected:
    return ExamplesSelected(**_stage_identity(event), selection=selection.files["selection"])


def _stage_identity(event: StagePlanned | ScoringShardPlanned | ShardScored) -> dict[str, Any]:
    return {
        "tenant": event.tenant,
        "run_id": event.run_id,
        "epoch": event.epoch,
        "stage": event.stage,
        "spec": event.spec,
        "plan": event.plan,
    }


def _is_scored(store: ArtifactStore, layout: StageLayout, shard: int) -> bool:
    return store.find_manifest(layout.score_shard(shard)) is not None
