"""A stage's candidates and selection: chosen at random or by score, stored once (DESIGN 2.3, 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

from baldistill.artifacts.ports import Manifest
from baldistill.artifacts.schemas import EXAMPLES, SELECTION
from baldistill.artifacts.tables import read_table, store_table
from baldistill.datasets.examples import Example
from services.selector.candidates import WHOLE_POOL, candidates_by_group, group_of, wanted_by_group
from services.selector.ranking import best_first
from services.selector.sampling import candidate_rank, random_rank, smallest_per_group
from services.selector.scores import scored_candidates
from services.selector.stages import Stage
from services.selector.strategies import strategy_of

# An example that was chosen, and its IFD where it was scored.
Choice = tuple[Example, float | None]


def ensure_candidates(stage: Stage) -> Manifest | None:
    """Return the stage's candidates, drawn and stored at the first call; None where there is no choice to make.

    Files: `candidates`, groups by name, within a group in random order.
    """
    wanted = candidates_by_group(stage.plan, candidates_per_pick=stage.frozen.spec.selection.candidates_per_pick)
    if not wanted:
        return None
    if (stored := stage.store.find_manifest(stage.layout.candidates)) is not None:
        return stored
    drawn = smallest_per_group(
        stage.remaining_pool(),
        wanted=wanted,
        group=group_of(stage.plan),
        rank=partial(candidate_rank, seed=stage.frozen.spec.seed, stage=stage.plan.stage),
    )
    rows = [_example_row(one) for group in sorted(drawn) for one in drawn[group]]
    folder = stage.layout.candidates.rpartition("/")[0]
    file = store_table(stage.store, folder=folder, name="candidates", schema=EXAMPLES, rows=rows)
    return stage.store.create_manifest(
        Manifest(key=stage.layout.candidates, files={"candidates": file}, rows=file.rows)
    )


def select_at_random(stage: Stage, *, closed_by: str) -> Manifest:
    """Choose every group's rows at random and close the stage's selection."""
    return _store_selection(stage, _chosen_at_random(stage, groups=wanted_by_group(stage.plan)), closed_by=closed_by)


def select_by_score(stage: Stage, *, candidates: Manifest, shards: int, closed_by: str) -> Manifest:
    """Choose by the run's strategy where candidates were scored, all that is there elsewhere, and close the selection."""
    wanted = wanted_by_group(stage.plan)
    contested = candidates_by_group(stage.plan, candidates_per_pick="all")
    best = best_first(
        scored_candidates(stage.store, stage.layout, shards=range(shards)),
        wanted={name: wanted[name] for name in contested},
        group=lambda one: WHOLE_POOL if stage.plan.pooled else one.domain,
        seed=stage.frozen.spec.seed,
        strategy=strategy_of(stage.frozen),
    )
    order = {one.example_id: (place, one.ifd) for group in best.values() for place, one in enumerate(group)}
    scored = sorted(
        (
            (order[row["id"]][0], _example(row))
            for row in read_table(stage.store, candidates.files["candidates"])
            if row["id"] in order
        ),
        key=lambda pair: pair[0],
    )
    choices: list[Choice] = [(example, order[example.example_id][1]) for _, example in scored]
    uncontested = {name: count for name, count in wanted.items() if name not in contested}
    if uncontested:
        choices.extend(_chosen_at_random(stage, groups=uncontested))
    return _store_selection(stage, choices, closed_by=closed_by)


def _chosen_at_random(stage: Stage, *, groups: dict[str, int]) -> list[Choice]:
    chosen = smallest_per_group(
        stage.remaining_pool(),
        wanted=groups,
        group=group_of(stage.plan),
        rank=partial(random_rank, seed=stage.frozen.spec.seed),
    )
    return [(one, None) for group in sorted(chosen) for one in chosen[group]]


def _store_selection(stage: Stage, choices: Iterable[Choice], *, closed_by: str) -> Manifest:
    """Store the rows, domains by name and within a domain in the order given; whoever comes first wins."""
    ordered = sorted(choices, key=lambda choice: choice[0].domain)
    file = store_table(
        stage.store,
        folder=stage.layout.folder,
        name="selection",
        schema=SELECTION,
        rows=({**_example_row(example), "ifd": ifd} for example, ifd in ordered),
    )
    counts = Counter(example.domain for example, _ in ordered)
    return stage.store.create_manifest(
        Manifest(
            key=stage.layout.selection,
            files={"selection": file},
            rows=file.rows,
            attributes={
                "selected": {name: counts[name] for name in sorted(stage.plan.domains)},
                "closed_by": closed_by,
            },
        )
    )


def _example(row: dict[str, Any]) -> Example:
    return Example(example_id=row["id"], domain=row["domain"], input=row["input"], answer=row["answer"])


def _example_row(example: Example) -> dict[str, str]:
    return {
        "id": example.example_id,
        "domain": example.domain,
        "input": example.input,
        "answer": example.answer,
    }
