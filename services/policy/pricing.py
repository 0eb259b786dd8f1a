"""What a proposal can cost at most, by the longest texts of each domain, before a cent is spent."""

from __future__ import annotations

from dataclasses import dataclass

from baldistill.tasks.bounds import NOTHING, CallBound, worst_annotation_bound, worst_synthesis_bound
from services.policy.preview import StageBound, bound_stage
from services.policy.submission import Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedPlan:
    """A proposal and the most that each of its stages can use."""

    proposal: Proposal
    bounds: tuple[StageBound, ...]

    @property
    def total(self) -> CallBound:
        return sum((bound.total for bound in self.bounds), NOTHING)


def price_plan(proposal: Proposal) -> PricedPlan:
    """Bound every stage. Raises UnpricedTeacher."""
    frozen, domains = proposal.frozen, proposal.dataset.domains
    annotation = {name: worst_annotation_bound(frozen, counts) for name, counts in domains.items()}
    synthesis = {name: worst_synthesis_bound(frozen, name, counts) for name, counts in domains.items()}
    bounds = [bound_stage(plan, frozen.method, annotation=annotation, synthesis=synthesis) for plan in proposal.plans]
    return PricedPlan(proposal=proposal, bounds=tuple(bounds))
