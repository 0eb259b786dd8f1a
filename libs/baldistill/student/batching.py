"""How token lists become tensors. Batches are a function of the lists alone, so that results are reproducible."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Never looked at: padding is masked by length, never by id (SmolLM2: pad = eos = 2).
_FILLER_ID = 0


def length_ordered_batches(lengths: Sequence[int], *, batch_size: int) -> list[list[int]]:
    """Return item numbers in batches of about equal length, longest first so that memory is short at once or never."""
    order = sorted(range(len(lengths)), key=lambda item: (-lengths[item], item))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def padded_right(rows: Sequence[Sequence[int]], *, device: torch.device) -> Tensor:
    """Return ids, shape (rows, longest). Under causal attention no real position sees what is right of it."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[_FILLER_ID] * (longest - len(row))] for row in rows], device=device)


def padded_left(rows: Sequence[Sequence[int]], *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and attention mask (1 = real), both (rows, longest)."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[*[_FILLER_ID] * (longest - len(row)), *row] for row in rows], device=device)
    mask = torch.tensor([[*[0] * (longest - len(row)), *[1] * len(row)] for row in rows], device=device)
    return ids, mask
