"""Why a stage's examples were chosen: its candidates with their scores, each domain's in the order of choice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from baldistill.artifacts.ports import ArtifactStore
from baldistill.artifacts.tables import read_table
from baldistill.errors import InvalidInput, NotKnown
from baldistill.specs.frozen import FrozenRun
from services.selector.ranking import rank_of
from services.selector.scores import score_rows, scored_candidate
from services.selector.strategies import strategy_of


class Reason(Enum):
    """Why an example was or was not taken.

    NOTHING_COMPETED: its domain gave all it had, or was drawn at random.   HIGHEST_VALUE, LOWER_VALUE: of the strategy.
    ABOVE_IFD_MAX, FLAGGED: left out by `selection.ifd_max`, `selection.drop_flagged`.
    """

    NOTHING_COMPETED = "nothing_competed"
    HIGHEST_VALUE = "highest_value"
    LOWER_VALUE = "lower_value"
    ABOVE_IFD_MAX = "above_ifd_max"
    FLAGGED = "flagged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One example that could have been chosen. rank: place in its domain, from 1.   score: a row of SCORES, or None."""

    example_id: str
    domain: str
    selected: bool
    rank: int
    reason: Reason
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
    for row in score_rows(store, layout):
        if domain in {"", row["domain"]}:
            scored[row["domain"]].append(row)
    found = [
        one
        for name in sorted({*chosen, *scored})
        for one in _of_domain(name, chosen=chosen[name], scored=scored[name], frozen=frozen)
    ]
    return [one for one in found if example_id in {"", one.example_id}]


def _of_domain(
    name: str, *, chosen: list[str], scored: list[dict[str, Any]], frozen: FrozenRun
) -> Iterator[Explanation]:
    strategy, seed = strategy_of(frozen), frozen.spec.seed
    candidates = {row["id"]: scored_candidate(row) for row in scored}
    order = sorted(candidates.values(), key=lambda one: rank_of(one, seed=seed, strategy=strategy))
    scores = {row["id"]: row for row in scored}
    selected = frozenset(chosen)

    def reason_of(example_id: str) -> Reason:
        if example_id not in candidates:
            return Reason.NOTHING_COMPETED
        if example_id in selected:
            return Reason.HIGHEST_VALUE
        left_out = strategy.left_out(candidates[example_id])
        return Reason.LOWER_VALUE if left_out is None else Reason[left_out.name]

    # What was chosen without a score stands first: nothing competed with it.
    ids = [*(one for one in chosen if one not in candidates), *(one.example_id for one in order)]
    for rank, example_id in enumerate(ids, start=1):
        yield Explanation(
            example_id=example_id,
            domain=name,
            selected=example_id in selected,
            rank=rank,
            reason=reason_of(example_id),
            score=scores.get(example_id),
        )
