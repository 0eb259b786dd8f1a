"""By what a stage's candidates are chosen: one value each, highest first, and what is left out beforehand (DESIGN 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from baldistill.specs.frozen import FrozenRun
from baldistill.specs.methods import HeadSelection


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredCandidate:
    """What choosing needs of a score. ifd, conditioned_nll (nats per token): None where the student wrote nothing.

    flagged: its answer loops or ends at the length limit.
    """

    example_id: str
    domain: str
    ifd: float | None
    conditioned_nll: float | None = None
    flagged: bool = False


class LeftOut(Enum):
    """Why a candidate is not eligible."""

    ABOVE_IFD_MAX = "above_ifd_max"
    FLAGGED = "flagged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """value: what candidates are sorted by, highest first; None: at random, and nothing is scored.

    ifd_max, drop_flagged: as `selection` in a spec has them.
    """

    value: Callable[[ScoredCandidate], float | None] | None
    ifd_max: float | None = None
    drop_flagged: bool = False

    def left_out(self, one: ScoredCandidate) -> LeftOut | None:
        """Tell why a candidate cannot be chosen, whatever its value; None where it can."""
        if self.ifd_max is not None and one.ifd is not None and one.ifd > self.ifd_max:
            return LeftOut.ABOVE_IFD_MAX
        return LeftOut.FLAGGED if self.drop_flagged and one.flagged else None


# The mean NLL orders as perplexity, its exponential, does, and does not overflow.
_VALUES: Mapping[HeadSelection, Callable[[ScoredCandidate], float | None]] = {
    HeadSelection.IFD: lambda one: one.ifd,
    HeadSelection.PERPLEXITY: lambda one: one.conditioned_nll,
}

BY_IFD = Strategy(value=_VALUES[HeadSelection.IFD])


def strategy_of(frozen: FrozenRun) -> Strategy:
    """Return a run's strategy."""
    settings = frozen.spec.selection
    return Strategy(value=_VALUES.get(frozen.method.head), ifd_max=settings.ifd_max, drop_flagged=settings.drop_flagged)
