"""Greedy generation by a model's own forward pass: for what the decoder of this package does not know (ADR 39)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from baldistill.student.batching import padded_left
from baldistill.student.decoding import Written
from baldistill.student.loading import Student


@torch.inference_mode()
def write_plainly(student: Student, prompts: Sequence[Sequence[int]], *, max_new_tokens: int) -> list[Written]:
    """Return what follows each prompt, in their order, without its likelihood; a row that ends leaves the batch."""
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
        Written(token_ids=tuple(ids_of), hit_length_limit=row in at_limit, nll=None)
        for row, ids_of in enumerate(written)
    ]
