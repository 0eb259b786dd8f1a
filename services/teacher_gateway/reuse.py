"""Annotations that another run of the tenant paid for already, taken instead of bought again (ADR 38)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import rfc8785

from baldistill.specs.frozen import FrozenRun
from services.teacher_gateway.ledger.holds import Reply, RequestKind
from services.teacher_gateway.requests import TeacherRequest, prompt_sha256
from services.teacher_gateway.verdicts import Answered, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidAnswer:
    """A stored reply, and the request that it was bought for."""

    request_key: str
    reply: Reply


class PaidAnswers(Protocol):
    """A tenant's stored replies by what they answer. Thread- and process-safe. Raises DependencyUnavailable."""

    def find(self, *, tenant: str, answer_ids: Collection[str]) -> Mapping[str, Sequence[PaidAnswer]]:
        """Return the replies that are stored still, the oldest first; nothing where there is none."""

    def note(self, *, tenant: str, request_keys: Mapping[str, str]) -> None:
        """Remember which request answers which question. request_keys: by answer id. Idempotent."""


def answer_id(frozen: FrozenRun, request: TeacherRequest) -> str | None:
    """Name a question by all that decides its answer: teacher, model, prompt, parameters; None where chance decides too."""
    if request.kind is not RequestKind.ANNOTATION or request.temperature != 0:
        return None
    teacher = frozen.spec.teacher
    decides: dict[str, object] = {
        "teacher": teacher.model_dump(mode="json", include={"kind", "base_url", "protocol", "oracle"}),
        "prompt": prompt_sha256(teacher, request),
    }
    if teacher.kind == "oracle":
        # It answers from the data set, not from the prompt.
        decides |= {"dataset": frozen.dataset.sha256, "example": request.row_id}
    return hashlib.sha256(rfc8785.dumps(decides)).hexdigest()


def find_reusable(
    frozen: FrozenRun, requests: Sequence[TeacherRequest], *, paid: PaidAnswers
) -> Mapping[str, Answered]:
    """Return answers of other runs by request key, where the spec takes them. What this run bought itself is not among them."""
    if frozen.spec.teacher.reuse != "tenant":
        return {}
    ids = {request.key: name for request in requests if (name := answer_id(frozen, request)) is not None}
    found = paid.find(tenant=frozen.spec.tenant, answer_ids=ids.values())
    return {
        key: Answered(reply=found[name][0].reply, stored=True, reused=True)
        for key, name in ids.items()
        if name in found and all(answer.request_key != key for answer in found[name])
    }


def note_answers(frozen: FrozenRun, answered: Iterable[tuple[TeacherRequest, Outcome]], *, paid: PaidAnswers) -> None:
    """Let later runs find what this one bought, whether it takes others' answers itself or not."""
    request_keys = {
        name: request.key
        for request, outcome in answered
        if isinstance(outcome, Answered) and not outcome.reused
        if (name := answer_id(frozen, request)) is not None
    }
    paid.note(tenant=frozen.spec.tenant, request_keys=request_keys)
