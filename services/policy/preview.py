"""What a run will ask for and can cost at most, before a cent is spent. Pure decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from baldistill.artifacts.schemas import StagePlan
from baldistill.specs.methods import Method, TailFilling, Target
from baldistill.tasks.bounds import NOTHING, CallBound
from services.policy.planning import rows_to_select, rows_to_synthesise


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBound:
    """The most that one stage can use for annotation and for synthesis."""

    annotation: CallBound
    synthesis: CallBound

    @property
    def total(self) -> CallBound:
        return self.annotation + self.synthesis


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
    invents = method.tail is TailFilling.SYNTHESISE
    if plan.pooled:
        dearest = max(annotation.values(), key=lambda bound: (bound.nano_usd, bound.tokens))
        return StageBound(annotation=dearest.times(annotation_calls(plan, method)), synthesis=NOTHING)
    buys_rationales = method.target is Target.RATIONALE
    annotated = [annotation[name].times(d.select if buys_rationales else 0) for name, d in plan.domains.items()]
    invented = [synthesis[name].times(d.deficit if invents else 0) for name, d in plan.domains.items()]
    return StageBound(annotation=sum(annotated, NOTHING), synthesis=sum(invented, NOTHING))
