"""Why a stage's examples were chosen: its candidates with their scores, each domain's in the order of choice."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from baldistill.artifacts.ports import ArtifactStore
from baldistill.artifacts.tables import read_table
from baldistill.errors import InvalidInput, NotKnown
from baldistill.specs.frozen import FrozenRun
from services.selector.ranking import ScoredCandidate, rank_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One example that could have been chosen. rank: place in its domain, from 1.   score: a row of SCORES, or None."""

    example_id: str
    domain: str
    selected: bool
    rank: int
    score: dict[str, Any] | None


def explain(
    store: ArtifactStore, frozen: FrozenRun, *, stage: int, domain: str = "", example_id: str = ""
) -> list[Explanation]:
    """Return a stage's candidates, domains by name and within a domain in the order of choice.

    Where a domain gave all it had, or was drawn at random, its candidates are what was chosen, in that order.
    domain, example_id: only these; empty = all.   Raises InvalidInput, NotKnown.
    """
    if not 1 <= stage <= frozen.spec.stages:
        raise InvalidInput(f"is 1 to {frozen.spec.stages}", field="stage")
    layout = frozen.layout.stage(stage)
    selection = store.find_manifest(layout.selection)
    if selection is None:
        raise NotKnown(kind="selection", name=f"{frozen.run_id}, stage {stage}", remedy="it is not made yet")
    chosen: dict[str, list[str]] = defaultdict(list)
    for row in read_table(store, selection.files["selection"], columns=["id", "domain"]):
        if domain in {"", row["domain"]}:
            chosen[row["domain"]].append(row["id"])
    scored: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _scores(store, frozen, stage=stage):
        if domain in {"", row["domain"]}:
            scored[row["domain"]].append(row)
    found = [
        one
        for name in sorted({*chosen, *scored})
        for one in _of_domain(name, chosen=chosen[name], scored=scored[name], seed=frozen.spec.seed)
    ]
    return [one for one in found if example_id in {"", one.example_id}]


def _of_domain(name: str, *, chosen: list[str], scored: list[dict[str, Any]], seed: int) -> Iterator[Explanation]:
    order = sorted(
        scored,
        key=lambda row: rank_of(ScoredCandidate(example_id=row["id"], domain=name, ifd=row["ifd"]), seed=seed),
    )
    scores = {row["id"]: row for row in order}
    # What was chosen without a score stands first: nothing competed with it.
    ids = [*(one for one in chosen if one not in scores), *scores]
    selected = frozenset(chosen)
    for rank, example_id in enumerate(ids, start=1):
        yield Explanation(
            example_id=example_id,
            domain=name,
            selected=example_id in selected,
            rank=rank,
            score=scores.get(example_id),
        )


def _scores(store: ArtifactStore, frozen: FrozenRun, *, stage: int) -> Iterator[dict[str, Any]]:
    """Yield the scores of all shards; none where the stage was drawn at random."""
    for shard in itertools.count():
        manifest = store.find_manifest(frozen.layout.stage(stage).score_shard(shard))
        if manifest is None:
            return
        yield from read_table(store, manifest.files["scores"])
