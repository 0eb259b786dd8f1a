"""A stage's stored scores, shard by shard."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from baldistill.artifacts.layout import StageLayout
from baldistill.artifacts.ports import ArtifactStore, require_manifest
from baldistill.artifacts.tables import read_table
from services.selector.strategies import ScoredCandidate

_COLUMNS = ["id", "domain", "ifd", "conditioned_nll", "hit_length_limit", "looping"]


def scored_candidates(store: ArtifactStore, layout: StageLayout, *, shards: Iterable[int]) -> Iterator[ScoredCandidate]:
    """Yield the candidates of shards as choosing wants them. Raises ArtifactMissing, ArtifactCorrupt."""
    for shard in shards:
        scores = require_manifest(store, layout.score_shard(shard)).files["scores"]
        yield from map(scored_candidate, read_table(store, scores, columns=_COLUMNS))


def score_rows(store: ArtifactStore, layout: StageLayout) -> Iterator[dict[str, Any]]:
    """Yield the rows of SCORES of all shards; none where the stage was drawn at random."""
    for shard in itertools.count():
        manifest = store.find_manifest(layout.score_shard(shard))
        if manifest is None:
            return
        yield from read_table(store, manifest.files["scores"])


def scored_candidate(row: dict[str, Any]) -> ScoredCandidate:
    """Return a row of SCORES as choosing wants it."""
    return ScoredCandidate(
        example_id=row["id"],
        domain=row["domain"],
        ifd=row["ifd"],
        conditioned_nll=row["conditioned_nll"],
        flagged=row["hit_length_limit"] or row["looping"],
    )
