"""How good a run's students are, read from the metrics that its stages leave (DESIGN 5). Artifacts never change: each is
read once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baldistill.artifacts.layout import RunLayout
from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.artifacts.schemas import StagePlan

_ALL = "all"
_MEANS = ("macro", "micro")


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainStanding:
    """One domain of one stage. pool: its items.   score: 0 to 1, None without a test item.   group: head or tail."""

    pool: int
    score: float | None
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageScores:
    """One stage's student. means: by (group, mean), 0 to 1, without those over too few items."""

    stage: int
    means: Mapping[tuple[str, str], float]
    domains: Mapping[str, DomainStanding]

    @property
    def macro(self) -> float | None:
        return self.means.get((_ALL, "macro"))


class StageFiles:
    """Reads what stages left. Not thread-safe. Keeps what it has read of the runs that were asked for last."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._scores: dict[str, StageScores] = {}
        self._plans: dict[str, StagePlan] = {}

    def scores(self, layout: RunLayout, stages: Iterable[int]) -> list[StageScores]:
        """Return the scores of those of the stages that are measured."""
        keys = {stage: layout.stage(stage).metrics for stage in stages}
        for stage, key in keys.items():
            if key not in self._scores and (manifest := self._store.find_manifest(key)) is not None:
                self._scores[key] = _scores(stage, self._json(manifest, "metrics"))
        return [self._scores[key] for key in keys.values() if key in self._scores]

    def plans(self, layout: RunLayout, stages: Iterable[int]) -> list[StagePlan]:
        """Return the plans of those of the stages that are planned."""
        keys = [layout.stage(stage).plan for stage in stages if stage > 0]
        for key in keys:
            if key not in self._plans and (manifest := self._store.find_manifest(key)) is not None:
                self._plans[key] = StagePlan.from_json(self._json(manifest, "plan"))
        return [self._plans[key] for key in keys if key in self._plans]

    def keep_only(self, layouts: Sequence[RunLayout]) -> None:
        """Forget all other runs."""
        folders = tuple(f"{layout.folder}/" for layout in layouts)
        self._scores = {key: scores for key, scores in self._scores.items() if key.startswith(folders)}
        self._plans = {key: plan for key, plan in self._plans.items() if key.startswith(folders)}

    def _json(self, manifest: Manifest, role: str) -> Any:
        return json.loads(self._store.read_bytes(manifest.files[role]))


def change_of_macro(scores: Sequence[StageScores]) -> float | None:
    """Return the newest student's macro score less the best before it; None without two of them. Stage 0 is no student."""
    known = [one.macro for one in scores if one.stage > 0 and one.macro is not None]
    return None if len(known) < 2 else known[-1] - max(known[:-1])


def _scores(stage: int, content: Mapping[str, Any]) -> StageScores:
    report = content["report"]
    sources = {_ALL: report, **report["groups"]}
    means = {(group, mean): source[mean] for group, source in sources.items() for mean in _MEANS}
    return StageScores(
        stage=stage,
        means={key: value for key, value in means.items() if value is not None},
        domains={
            name: DomainStanding(pool=one["pool"], score=one["score"], group=one["group"])
            for name, one in report["domains"].items()
        },
    )
