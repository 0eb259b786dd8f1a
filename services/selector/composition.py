"""Wires the selector: which group handles which fact, with what."""

from __future__ import annotations

from functools import partial

from baldistill.artifacts.ports import ArtifactStore
from baldistill.events.facts import ScoringShardPlanned, ShardScored, StagePlanned
from baldistill.runtime.handlers import ConsumerGroup
from baldistill.runtime.progress import ProgressSource, no_progress_of_any
from services.selector.adapters.torch_scorer import TorchStudentScorer
from services.selector.handlers import on_scoring_shard_planned, on_shard_scored, on_stage_planned
from services.selector.ports import StudentScorer


def build_selector(
    *, store: ArtifactStore, progress: ProgressSource = no_progress_of_any, scorer: StudentScorer | None = None
) -> list[ConsumerGroup]:
    """Return the always-on group and the worker's group. scorer: default: torch, on this machine."""
    scorer = scorer or TorchStudentScorer(store)
    return [
        ConsumerGroup(
            name="selector",
            handlers={
                StagePlanned: partial(on_stage_planned, store=store),
                ShardScored: partial(on_shard_scored, store=store),
            },
        ),
        ConsumerGroup(
            name="selector-worker",
            handlers={
                ScoringShardPlanned: partial(on_scoring_shard_planned, store=store, scorer=scorer, progress=progress),
            },
        ),
    ]
