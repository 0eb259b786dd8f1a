"""Greedy generation in batches: the student's own answers, for selection, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from baldistill.student.batching import length_ordered_batches, padded_left
from baldistill.student.loading import Student


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedAnswer:
    """What a student wrote. token_ids: as generated, EOS not included, never re-encoded."""

    token_ids: tuple[int, ...]
    hit_length_limit: bool


def generate_greedily(
    student: Student,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    on_answered: Callable[[int], None] | None = None,
) -> list[GeneratedAnswer]:
    """Return one answer per prompt, in the order of the prompts.

    Prompts of about equal length share a batch; a row that ends leaves its batch.
    on_answered: told how many answers are complete after each batch.
    """
    answers: dict[int, GeneratedAnswer] = {}
    for batch in length_ordered_batches([len(prompt) for prompt in prompts], batch_size=batch_size):
        written = _generate_batch(student, [prompts[item] for item in batch], max_new_tokens=max_new_tokens)
        answers |= dict(zip(batch, written, strict=True))
        if on_answered is not None:
            on_answered(len(answers))
    return [answers[item] for item in range(len(prompts))]


@torch.inference_mode()
def _generate_batch(
    student: Student, prompts: Sequence[Sequence[int]], *, max_new_tokens: int
) -> list[GeneratedAnswer]:
    from transformers import DynamicCache

    ids, mask = padded_left(prompts, device=student.device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    cache = DynamicCache()
    written: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # of the batch as it was, by row of what is left of it
    for step in range(max_new_tokens):
        logits = student.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        chosen: Tensor = logits[:, -1].argmax(dim=-1)
        going_on = [at for at, token in enumerate(chosen.tolist()) if token not in student.stop_ids]
        for at in going_on:
            written[rows[at]].append(int(chosen[at]))
        rows = [rows[at] for at in going_on]
        if not rows or step == max_new_tokens - 1:
            break
        if len(going_on) < len(chosen):
            kept = torch.tensor(going_on, device=student.device)
            cache.batch_select_indices(kept)
            chosen, mask, positions = chosen[kept], mask[kept], positions[kept]
        ids = chosen[:, None]
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
    at_limit = set(rows)
    return [
        GeneratedAnswer(token_ids=tuple(ids_of), hit_length_limit=row in at_limit) for row, ids_of in enumerate(written)
    ]
