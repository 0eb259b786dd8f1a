"""Which examples a synthesis prompt shows: originals of the domain, explained ones first (DESIGN 2.4). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from baldistill.datasets.examples import Example
from baldistill.seeding import generator


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateDemonstration:
    """An original item of the domain. rationale: the accepted one, empty where there is none so far."""

    example: Example
    rationale: str = ""


def choose_demonstrations(
    originals: Sequence[CandidateDemonstration], *, count: int, seed: int, stage: int, domain: str, sample: int
) -> list[CandidateDemonstration]:
    """Draw `count` items without replacement, those with a rationale before all others; fewer where there are fewer."""
    rng = generator(seed, "demonstrations", stage, domain, sample)
    drawn = [originals[place] for place in rng.permutation(len(originals))]
    return sorted(drawn, key=lambda one: not one.rationale)[:count]
