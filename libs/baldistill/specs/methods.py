"""The eight presets of the paper's comparison and every other mix that makes sense (DESIGN 2)."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class BalancingPolicy(enum.Enum):
    """How a stage's quota is divided over the domains. NONE: no stages. POOLED: not divided at all."""

    NONE = "none"
    RANDOM = "random"
    NAIVE = "naive"
    ADAPTIVE = "adaptive"
    POOLED = "pooled"


class HeadSelection(enum.Enum):
    """How a head domain's examples are chosen.

    IFD: highest instruction-following difficulty first.   PERPLEXITY: what the student is least sure of first, PPL(y|x).
    """

    RANDOM = "random"
    IFD = "ifd"
    PERPLEXITY = "perplexity"

    @property
    def scores(self) -> bool:
        """Whether candidates are scored by the student of the stage before."""
        return self is not HeadSelection.RANDOM


class TailFilling(enum.Enum):
    """What a tail domain's deficit is filled with."""

    NONE = "none"
    DUPLICATE = "duplicate"
    SYNTHESISE = "synthesise"


class Target(enum.Enum):
    """What the student learns to write: the rationale and then the answer, or the answer alone."""

    RATIONALE = "rationale"
    LABEL = "label"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One row of the table of methods."""

    policy: BalancingPolicy
    head: HeadSelection
    tail: TailFilling
    target: Target = Target.RATIONALE

    @property
    def has_stages(self) -> bool:
        """False for the zero-shot student, which is only measured."""
        return self.policy is not BalancingPolicy.NONE

    @property
    def trains_every_stage(self) -> bool:
        """True where a later stage's selection needs the student of the stage before."""
        return self.head.scores


PRESETS: dict[str, Method] = {
    "zero_shot_cot": Method(policy=BalancingPolicy.NONE, head=HeadSelection.RANDOM, tail=TailFilling.NONE),
    "random_ft": Method(
        policy=BalancingPolicy.RANDOM, head=HeadSelection.RANDOM, tail=TailFilling.NONE, target=Target.LABEL
    ),
    "random_ft_cot": Method(policy=BalancingPolicy.RANDOM, head=HeadSelection.RANDOM, tail=TailFilling.NONE),
    "duplicate_ft_cot": Method(policy=BalancingPolicy.NAIVE, head=HeadSelection.RANDOM, tail=TailFilling.DUPLICATE),
    "balance_ft_cot": Method(policy=BalancingPolicy.NAIVE, head=HeadSelection.RANDOM, tail=TailFilling.SYNTHESISE),
    "active_ft_cot": Method(policy=BalancingPolicy.POOLED, head=HeadSelection.IFD, tail=TailFilling.NONE),
    "baldistill_n": Method(policy=BalancingPolicy.NAIVE, head=HeadSelection.IFD, tail=TailFilling.SYNTHESISE),
    "baldistill_a": Method(policy=BalancingPolicy.ADAPTIVE, head=HeadSelection.IFD, tail=TailFilling.SYNTHESISE),
}

_DIVIDED = (BalancingPolicy.NAIVE, BalancingPolicy.ADAPTIVE)


def refusal_of(method: Method) -> str | None:
    """Return why a mix of policy, head selection and tail filling is refused, or None where it is valid."""
    if method.policy in _DIVIDED and method.tail is TailFilling.NONE:
        return (
            "a naive or adaptive policy asks tail domains for more than they have: set tail to synthesise or duplicate"
        )
    if method.policy in _DIVIDED:
        return None
    if method.tail is not TailFilling.NONE:
        return f"policy {method.policy.value} never asks a domain for more than it has: tail must be none"
    if method.policy is BalancingPolicy.RANDOM and method.head.scores:
        return "policy random fixes its sample before any student exists: head must be random (for scores use policy pooled)"
    if method.policy is BalancingPolicy.POOLED and method.head is HeadSelection.RANDOM:
        return (
            "policy pooled ranks the whole pool by score: head must be ifd or perplexity (for random use policy random)"
        )
    return None
