"""A stage's teacher requests, in an order that is a function of spec, plan and selection alone (DESIGN 2.4, 2.5)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import rfc8785

from baldistill.artifacts.schemas import StagePlan
from baldistill.datasets.examples import Example
from baldistill.seeding import stable_hash
from baldistill.specs.frozen import FrozenRun
from baldistill.specs.runspec import TeacherSpec
from baldistill.tasks.prompts import ChatMessage, Demonstration, annotation_messages, synthesis_messages
from services.teacher_gateway.demonstrations import CandidateDemonstration, choose_demonstrations
from services.teacher_gateway.ledger.budgets import BudgetPath
from services.teacher_gateway.ledger.holds import RequestKind, request_key

# The OpenAI API takes a signed 64-bit seed, other servers a 32-bit one.
_SEEDS = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisOrder:
    """One example to be synthesised. sample: 0-based within stage and domain.   draw: within run and domain."""

    domain: str
    sample: int
    draw: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardedBody:
    """A caller's own body, which goes to the teacher as it is. sha256: of all that decides the answer.

    prompt_tokens: at most.   completion_tokens: at most, of all answers together.
    """

    sha256: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherRequest:
    """What one row, or one caller, asks the teacher.

    example: what is annotated, None for synthesis.   right_label: what the answer must be, or have; None: anything.
    aliases: other right answers than the example's own.
    draw: which of the domain's synthesised examples of the run it is, from 0.
    forwarded: what is sent in place of the messages; None: the messages.
    """

    row_id: str
    domain: str
    kind: RequestKind
    key: str
    budget: BudgetPath
    messages: Sequence[ChatMessage]
    temperature: float
    seed: int | None
    example: Example | None
    right_label: str | None
    aliases: Sequence[str] = ()
    draw: int = 0
    forwarded: ForwardedBody | None = None


def annotation_request(
    frozen: FrozenRun, *, stage: int, example: Example, aliases: Sequence[str] = ()
) -> TeacherRequest:
    """Ask for the rationale of a real example, at temperature 0."""
    return TeacherRequest(
        row_id=example.example_id,
        domain=example.domain,
        kind=RequestKind.ANNOTATION,
        key=_key(frozen, stage=stage, kind=RequestKind.ANNOTATION, subject=example.example_id, sample=0),
        budget=_budget(frozen, stage=stage, domain=example.domain),
        messages=annotation_messages(frozen, example),
        temperature=0.0,
        seed=None,
        example=example,
        right_label=example.answer,
        aliases=aliases,
    )


def synthesis_orders(plan: StagePlan, *, ordered_before: Mapping[str, int] | None = None) -> list[SynthesisOrder]:
    """Return what the stage's tail domains lack, domains in name order. ordered_before: by earlier stages, by domain."""
    before = ordered_before or {}
    return [
        SynthesisOrder(domain=domain, sample=sample, draw=before.get(domain, 0) + sample)
        for domain, of_domain in sorted(plan.domains.items())
        for sample in range(of_domain.deficit)
    ]


def replacement_orders(
    plan: StagePlan, wanted: Mapping[str, int], *, ordered_before: Mapping[str, int] | None = None
) -> list[SynthesisOrder]:
    """Return orders for `wanted` more examples, domains in name order; their samples follow those of the first round."""
    before = ordered_before or {}
    return [
        SynthesisOrder(domain=domain, sample=sample, draw=before.get(domain, 0) + sample)
        for domain, count in sorted(wanted.items())
        for sample in range(plan.domains[domain].deficit, plan.domains[domain].deficit + count)
    ]


def synthesis_request(
    frozen: FrozenRun, order: SynthesisOrder, *, stage: int, originals: Sequence[CandidateDemonstration]
) -> TeacherRequest:
    """Ask for a new example. originals: the domain's own items, in the pool's order."""
    shown = choose_demonstrations(
        originals,
        count=frozen.spec.synthesis.demonstrations,
        seed=frozen.spec.seed,
        stage=stage,
        domain=order.domain,
        sample=order.sample,
    )
    answers = {one.example.answer for one in originals}
    return TeacherRequest(
        row_id=f"synthetic/{stage}/{order.domain}/{order.sample}",
        domain=order.domain,
        kind=RequestKind.SYNTHESIS,
        key=_key(frozen, stage=stage, kind=RequestKind.SYNTHESIS, subject=order.domain, sample=order.sample),
        budget=_budget(frozen, stage=stage, domain=order.domain),
        messages=synthesis_messages(frozen, order.domain, [_shown(one) for one in shown]),
        temperature=frozen.spec.teacher.synthesis_temperature,
        seed=stable_hash(frozen.spec.seed, "synthesis", stage, order.domain, order.sample) % _SEEDS,
        example=None,
        right_label=frozen.task.required_of(answers),
        draw=order.draw,
    )


def prompt_sha256(teacher: TeacherSpec, request: TeacherRequest) -> str:
    """Return the hash of all that decides the teacher's answer."""
    if request.forwarded is not None:
        return request.forwarded.sha256
    decides: Mapping[str, object] = {
        "model": teacher.model,
        "messages": [[message.role, message.content] for message in request.messages],
        "temperature": request.temperature,
        "seed": request.seed,
        "max_completion_tokens": teacher.max_completion_tokens,
    }
    return hashlib.sha256(rfc8785.dumps(dict(decides))).hexdigest()


def _shown(candidate: CandidateDemonstration) -> Demonstration:
    return Demonstration(input=candidate.example.input, answer=candidate.example.answer, rationale=candidate.rationale)


def _key(frozen: FrozenRun, *, stage: int, kind: RequestKind, subject: str, sample: int) -> str:
    return request_key(
        tenant=frozen.spec.tenant, run_id=frozen.run_id, stage=stage, kind=kind, subject=subject, sample=sample
    )


def _budget(frozen: FrozenRun, *, stage: int, domain: str) -> BudgetPath:
    return BudgetPath(tenant=frozen.spec.tenant, run_id=frozen.run_id, stage=stage, domain=domain)
