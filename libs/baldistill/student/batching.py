"""How token lists become tensors. Batches are a function of the lists alone, so that results are reproducible."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Never looked at: padding is masked by length, never by id (SmolLM2: pad = eos = 2).
_FILLER_ID = 0

# Matrix products of a CPU are at their fastest from some hundred tokens on, and short rows should not wait for long ones.
TOKENS_PER_READ = 2048
LEAST_FILLED = 0.85

# Logits of so many positions exist at once: 25 MiB of float32 for a vocabulary of 50,000. Blocks of more than 32 MiB glibc maps
# anew each time: touching their pages took longer than what is computed in them.
LOGITS_AT_ONCE = 128


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Return item numbers, longest first so that memory is short at once or never."""
    return sorted(range(len(lengths)), key=lambda item: (-lengths[item], item))


def length_ordered_batches(
    lengths: Sequence[int], *, batch_size: int, max_tokens: int | None = None
) -> list[list[int]]:
    """Return item numbers in batches of about equal length, longest first.

    A batch has at most `batch_size` items, and at most `max_tokens` tokens where all are as long as its longest; at
    least one item.
    """
    batches: list[list[int]] = []
    for item in longest_first(lengths):
        if batches:
            last = batches[-1]
            longest = max(1, lengths[last[0]])
            if len(last) < batch_size and (max_tokens is None or (len(last) + 1) * longest <= max_tokens):
                last.append(item)
                continue
        batches.append([item])
    return batches


def evenly_long_batches(lengths: Sequence[int], *, max_tokens: int, least_filled: float) -> list[range]:
    """Cut a list into ranges that are padded to few tokens more than they have.

    Within one no item is shorter than `least_filled` of the longest so far, nor longer than the first; at most
    `max_tokens` tokens where all are as long as the first; at least one item.
    """
    pieces: list[range] = []
    for item, length in enumerate(lengths):
        if pieces:
            last = pieces[-1]
            first = lengths[last.start]
            if least_filled * first <= length <= first and (len(last) + 1) * first <= max_tokens:
                pieces[-1] = range(last.start, item + 1)
                continue
        pieces.append(range(item, item + 1))
    return pieces


def shared_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Return how many ids all rows begin with, at most all but one of the shortest: each has something of its own."""
    if len(rows) < 2:
        return 0
    # What the smallest and the largest in lexical order share, all share.
    smallest, largest = min(map(tuple, rows)), max(map(tuple, rows))
    shared = 0
    for one, other in zip(smallest, largest, strict=False):
        if one != other:
            break
        shared += 1
    return min(shared, min(map(len, rows)) - 1)


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
