"""Greedy answers of a student: for selection, evaluation and prediction, all by one engine (ADR 39)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from baldistill.student.batching import length_ordered_batches, shared_prefix
from baldistill.student.decoding import Written, read_prefix, write_greedily
from baldistill.student.drafting import MOST_GUESSED
from baldistill.student.loading import Student
from baldistill.student.memory import halving_when_short, ignore_halving
from baldistill.student.plain_decoding import write_plainly

# Writes one batch of prompts, given by their numbers.
_WriteBatch = Callable[[Sequence[int]], list[Written]]


def generate_greedily(
    student: Student,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    cache_mib: int | None = None,
    on_answered: Callable[[int], None] | None = None,
    on_halved: Callable[[int], None] = ignore_halving,
) -> list[Written]:
    """Return one answer per prompt, in the order of the prompts.

    Prompts of about equal length share a batch: at most `batch_size`, and no more than `cache_mib` of keys and values.
    What all prompts begin with is read once. Batches depend on the arguments alone.
    on_answered: told how many answers are complete after each batch.
    on_halved: told how many rows did not fit into memory; they are done in two halves.
    """
    answers: dict[int, Written] = {}
    write = _writer(student, prompts, max_new_tokens=max_new_tokens)
    batches = length_ordered_batches(
        [len(prompt) + max_new_tokens + MOST_GUESSED for prompt in prompts],
        batch_size=batch_size,
        max_tokens=_tokens_in(student, cache_mib),
    )
    for batch in batches:
        for part, written in halving_when_short(batch, write, on_halved=on_halved):
            answers |= dict(zip(part, written, strict=True))
        if on_answered is not None:
            on_answered(len(answers))
    return [answers[item] for item in range(len(prompts))]


def _writer(student: Student, prompts: Sequence[Sequence[int]], *, max_new_tokens: int) -> _WriteBatch:
    decoder = student.decoder
    if decoder is None:
        return lambda items: write_plainly(student, [prompts[item] for item in items], max_new_tokens=max_new_tokens)
    shared = shared_prefix(prompts)
    prefix = read_prefix(decoder, prompts[0][:shared] if shared else (), device=student.device)
    return lambda items: write_greedily(
        decoder,
        [prompts[item][shared:] for item in items],
        prefix=prefix,
        max_new_tokens=max_new_tokens,
        stop_ids=student.stop_ids,
        device=student.device,
    )


def _tokens_in(student: Student, cache_mib: int | None) -> int | None:
    if cache_mib is None or student.decoder is None:
        return None
    return (cache_mib << 20) // student.decoder.weights.cache_bytes_per_token
