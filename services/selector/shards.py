"""One shard of scoring: rows in, scores out, stored once."""

from __future__ import annotations

import itertools

from baldistill.artifacts.ports import Manifest
from baldistill.artifacts.schemas import SCORES
from baldistill.artifacts.tables import read_table, store_table
from baldistill.datasets.examples import Example
from baldistill.events.facts import ScoringShardPlanned
from baldistill.runtime.fanout import shard_rows
from baldistill.runtime.progress import ProgressSink
from services.selector.ports import Score, StudentScorer
from services.selector.stages import Stage


def score_shard(stage: Stage, event: ScoringShardPlanned, *, scorer: StudentScorer, progress: ProgressSink) -> Manifest:
    """Score the shard's candidates and store what came out; of two workers the first to store wins."""
    total = event.candidates.rows
    rows = shard_rows(shard=event.shard, rows=total, rows_per_shard=stage.frozen.spec.selection.rows_per_shard)
    table = itertools.islice(read_table(stage.store, event.candidates), rows.start, rows.stop)
    examples = [
        Example(example_id=row["id"], domain=row["domain"], input=row["input"], answer=row["answer"]) for row in table
    ]
    halved: list[int] = []
    scores = scorer.score(
        frozen=stage.frozen,
        student=event.student,
        examples=examples,
        on_scored=lambda done: progress(step="score", done=rows.start + done, total=total, unit="examples"),
        on_halved=halved.append,
    )
    key = stage.layout.score_shard(event.shard)
    folder, _, name = key.removesuffix(".json").rpartition("/")
    file = store_table(stage.store, folder=folder, name=name, schema=SCORES, rows=map(score_row, scores))
    # Said where it happened: "same bytes" holds only without it (DESIGN 5).
    attributes = {"halved_for_memory": halved} if halved else {}
    return stage.store.create_manifest(Manifest(key=key, files={"scores": file}, rows=file.rows, attributes=attributes))


def score_row(score: Score) -> dict[str, object]:
    """Return a score as schemas.SCORES has it."""
    return {
        "id": score.example_id,
        "domain": score.domain,
        "ifd": score.ifd,
        "conditioned_nll": score.conditioned_nll,
        "unconditioned_nll": score.unconditioned_nll,
        "generated_tokens": score.generated_tokens,
        "hit_length_limit": score.hit_length_limit,
        "looping": score.looping,
    }
