"""A student's answers to texts, as evaluation and prediction read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baldistill.specs.frozen import FrozenRun

if TYPE_CHECKING:
    from baldistill.student.loading import Student


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentAnswer:
    """text: all that the student wrote.   answer: the final one in it, as its task reads it, or `<none>`.

    tokens: its length.
    """

    text: str
    answer: str
    tokens: int
    hit_length_limit: bool


def answer_texts(
    student: Student,
    frozen: FrozenRun,
    texts: Sequence[str],
    *,
    on_answered: Callable[[int], None] | None = None,
) -> list[StudentAnswer]:
    """Return the student's greedy answers, in the order of the texts. on_answered: told how many are done so far."""
    from baldistill.student.generation import generate_greedily
    from baldistill.student.rendering import render_prompt, room_for_generation

    settings = frozen.spec.evaluation
    room = room_for_generation(frozen, max_new_tokens=settings.max_new_tokens)
    prompts = [render_prompt(frozen, student.tokenizer, text=text, room_for=room)[0] for text in texts]
    written = generate_greedily(
        student,
        prompts,
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        cache_mib=frozen.spec.student.cache_mib,
        on_answered=on_answered,
    )
    decoded = [student.tokenizer.decode(one.token_ids, skip_special_tokens=True) for one in written]
    return [
        StudentAnswer(
            text=text,
            answer=frozen.task.read(text, frozen.labels),
            tokens=len(one.token_ids),
            hit_length_limit=one.hit_length_limit,
        )
        for text, one in zip(decoded, written, strict=True)
    ]
