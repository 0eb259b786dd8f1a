"""Instruction-following difficulty: how much the question helps the student to write its answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# A block that comes this often in a row, over at least this many tokens, is a loop and no list.
_LOOP_REPEATS = 4
_LOOP_TOKENS = 16


def instruction_following_difficulty(conditioned_nll: Tensor, unconditioned_nll: Tensor) -> Tensor:
    """IFD: PPL(y|x) / PPL(y); higher = the instruction helps the student less.

    Args: both mean negative log-likelihoods in nats per token of y, shape (b,).
    Returns: exp(conditioned_nll - unconditioned_nll), shape (b,), float64.   Raises: ValueError if the shapes differ.
    Source: arXiv 2406.13114 section 3.5; Li et al. 2024.
    """
    if conditioned_nll.shape != unconditioned_nll.shape:
        raise ValueError(f"shapes differ: {tuple(conditioned_nll.shape)} and {tuple(unconditioned_nll.shape)}")
    return torch.exp(conditioned_nll.double() - unconditioned_nll.double())


def is_looping(token_ids: Sequence[int]) -> bool:
    """True where a text ends in the same block of tokens four or more times, over at least 16 tokens."""
    for block in range(1, len(token_ids) // _LOOP_REPEATS + 1):
        repeats = max(_LOOP_REPEATS, -(-_LOOP_TOKENS // block))
        tail = token_ids[-block * repeats :]
        if len(tail) == block * repeats and all(tail[i] == tail[i % block] for i in range(len(tail))):
            return True
    return False
