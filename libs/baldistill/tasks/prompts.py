"""The teacher's messages for one request. Pure: the same frozen run and example give the same bytes (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from baldistill.datasets.examples import Example
from baldistill.specs.frozen import FrozenRun
from baldistill.tasks.templates import render_template

# A demonstration's rationale is cut at this many bytes per completion token that an answer may have. Without a cut a
# synthesis prompt has no bound before the rationales are known; four bytes a token is above what tokenizers
# reach on prose, so in practice nothing is cut.
DEMONSTRATION_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of a chat. role: `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """One example shown to the teacher. rationale: empty where none was accepted yet."""

    input: str
    answer: str
    rationale: str = ""


def annotation_messages(frozen: FrozenRun, example: Example) -> tuple[ChatMessage, ...]:
    """Ask for a rationale that leads to the example's true answer (DESIGN 2.5)."""
    templates = frozen.templates
    prompt = render_template(
        templates.annotation_prompt, input=example.input, answer=example.answer, labels=frozen.labels
    )
    return _chat(system=templates.annotation_system, user=prompt)


def synthesis_messages(
    frozen: FrozenRun, domain: str, demonstrations: Sequence[Demonstration]
) -> tuple[ChatMessage, ...]:
    """Ask for one new example of a domain, with its rationale, in one call (DESIGN 2.4)."""
    templates = frozen.templates
    longest = rationale_bytes_shown(frozen)
    shown = [
        {"input": one.input, "answer": one.answer, "rationale": _cut(one.rationale, longest)} for one in demonstrations
    ]
    prompt = render_template(templates.synthesis_prompt, domain=domain, labels=frozen.labels, demonstrations=shown)
    return _chat(system=templates.synthesis_system, user=prompt)


def rationale_bytes_shown(frozen: FrozenRun) -> int:
    """Return how many UTF-8 bytes of a rationale a demonstration shows at most."""
    return frozen.spec.teacher.max_completion_tokens * DEMONSTRATION_BYTES_PER_TOKEN


def _chat(*, system: str, user: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage(role="system", content=system), ChatMessage(role="user", content=user))


def _cut(text: str, size_bytes: int) -> str:
    return text.encode()[:size_bytes].decode(errors="ignore")
