"""What a run will ask for and can cost at most, before a cent is spent. Pure decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from baldistill.artifacts.schemas import StagePlan
from baldistill.specs.methods import Method, Target
from services.policy.planning import rows_to_select, rows_to_synthesise


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBound:
    """The most that one call to the teacher can use: tokens of prompt and completion, and nano-USD."""

    tokens: int
    nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBound:
    """One stage's calls and the most they can use. annotate, synthesise: calls."""

    annotate: int
    synthesise: int
    tokens: int
    nano_usd: int

    @property
    def calls(self) -> int:
        return self.annotate + self.synthesise


def annotation_calls(plan: StagePlan, method: Method) -> int:
    """Return the stage's annotation calls: labels are known already, only rationales are bought."""
    return rows_to_select(plan) if method.target is Target.RATIONALE else 0


def method_calls(plans: Sequence[StagePlan], method: Method) -> int:
    """Return the method's calls over all stages: the strict default of `budget.calls`."""
    return sum(annotation_calls(plan, method) + rows_to_synthesise(plan, method) for plan in plans)


def bound_stage(
    plan: StagePlan, method: Method, *, annotation: Mapping[str, CallBound], synthesis: Mapping[str, CallBound]
) -> StageBound:
    """Return the most that a stage can use.

    annotation, synthesis: the bound of one call, by domain. A pooled stage may take its rows from any domain, so each of
    its calls counts at the dearest domain's bound.
    """
    annotate = annotation_calls(plan, method)
    synthesise = rows_to_synthesise(plan, method)
    if plan.pooled:
        annotated = [(annotate, annotation[max(annotation, key=lambda name: annotation[name].tokens)])]
    else:
        paid = method.target is Target.RATIONALE
        annotated = [(domain.select if paid else 0, annotation[name]) for name, domain in plan.domains.items()]
    synthesised = [(domain.deficit if synthesise else 0, synthesis[name]) for name, domain in plan.domains.items()]
    priced = annotated + synthesised
    return StageBound(
        annotate=annotate,
        synthesise=synthesise,
        tokens=sum(count * bound.tokens for count, bound in priced),
        nano_usd=sum(count * bound.nano_usd for count, bound in priced),
    )
