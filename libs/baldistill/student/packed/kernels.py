"""Attention between given queries and keys, and its gradient, so that parts of one softmax can be joined afterwards."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Scores of one product; rows beyond it wait for the next. About what stays in a core's share of the cache.
_SCORE_CELLS = 4 << 20


# torch's public attention keeps its normalisers for itself; without them parts of one softmax can't be joined.
_FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001
_FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward  # noqa: SLF001


def attend(queries: Tensor, keys: Tensor, values: Tensor, *, causal: bool) -> tuple[Tensor, Tensor]:
    """Return the attention over these keys alone, and the log of its normaliser, both float32.

    queries: shape (b, h, q, d).   keys, values: (b, g, k, d), h a multiple of g; queries of heads i * h / g and on share
    head i of the keys.   causal: a query sees the keys up to its own number.
    Returns: (b, h, q, d) and (b, h, q).
    """
    if queries.device.type == "cpu":
        out, log_normaliser = _FLASH(queries.float(), keys.float(), values.float(), 0.0, causal)
        return out, log_normaliser
    return attend_by_products(queries, keys, values, causal=causal)


def attend_backward(
    gradient: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    output: Tensor,
    log_normaliser: Tensor,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys and values, float32, where these keys were part of one softmax.

    gradient, output: of the whole softmax, shape (b, h, q, d).   log_normaliser: of the whole softmax, (b, h, q).
    Source: FlashAttention (arXiv 2205.14135) algorithm 4, whose blocks of keys are independent of each other: so torch's
    kernel, given the whole softmax's output and normaliser, returns what flows back through these keys.
    """
    if queries.device.type == "cpu":
        tensors = [one.float() for one in (gradient, queries, keys, values, output)]
        to_queries, to_keys, to_values = _FLASH_BACKWARD(*tensors, log_normaliser, 0.0, causal)
        return to_queries, to_keys, to_values
    return attend_backward_by_products(
        gradient, queries, keys, values, output=output, log_normaliser=log_normaliser, causal=causal
    )


def attend_by_products(queries: Tensor, keys: Tensor, values: Tensor, *, causal: bool) -> tuple[Tensor, Tensor]:
    """Do as `attend` does, by plain matrix products, on any device."""
    out = torch.empty(queries.shape, dtype=torch.float32, device=queries.device)
    log_normaliser = torch.empty(queries.shape[:-1], dtype=torch.float32, device=queries.device)
    hidden = _hidden_keys(queries, keys) if causal else None
    for rows in _row_slices(queries, keys):
        q, k, v = (_by_key_head(one[rows], keys.shape[1]) for one in (queries, keys, values))
        scores = _scores(q, k, hidden)
        peak = scores.amax(dim=-1, keepdim=True)
        shares = scores.sub_(peak).exp_()
        total = shares.sum(dim=-1, keepdim=True)
        out[rows] = torch.bmm(shares, v).div_(total).view(out[rows].shape)
        log_normaliser[rows] = peak.add_(total.log_()).view(log_normaliser[rows].shape)
    return out, log_normaliser


def attend_backward_by_products(
    gradient: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    output: Tensor,
    log_normaliser: Tensor,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Do as `attend_backward` does, by plain matrix products, on any device."""
    to_queries = torch.empty(queries.shape, dtype=torch.float32, device=queries.device)
    to_keys, to_values = (torch.empty(keys.shape, dtype=torch.float32, device=keys.device) for _ in range(2))
    hidden = _hidden_keys(queries, keys) if causal else None
    mean = (gradient.float() * output).sum(dim=-1)
    for rows in _row_slices(queries, keys):
        heads = keys.shape[1]
        g, q, k, v = (_by_key_head(one[rows], heads) for one in (gradient, queries, keys, values))
        norm, shift = (one[rows].reshape(len(q), -1, 1) for one in (log_normaliser, mean))
        shares = _scores(q, k, hidden).sub_(norm).exp_()
        to_values[rows] = torch.bmm(shares.transpose(1, 2), g).view(to_values[rows].shape)
        of_scores = torch.bmm(g, v.transpose(1, 2)).sub_(shift).mul_(shares)
        scale = 1 / math.sqrt(queries.shape[-1])
        to_queries[rows] = torch.bmm(of_scores, k).mul_(scale).view(to_queries[rows].shape)
        to_keys[rows] = torch.bmm(of_scores.transpose(1, 2), q).mul_(scale).view(to_keys[rows].shape)
    return to_queries, to_keys, to_values


def _scores(queries: Tensor, keys: Tensor, hidden: Tensor | None) -> Tensor:
    scores = torch.bmm(queries, keys.transpose(1, 2)).mul_(1 / math.sqrt(queries.shape[-1]))
    return scores if hidden is None else scores.masked_fill_(hidden, -math.inf)


def _by_key_head(tensor: Tensor, heads: int) -> Tensor:
    """Return (b, h, s, d) as (b * heads, h / heads * s, d) in float32: queries of one key head behind each other."""
    b, h, s, d = tensor.shape
    return tensor.float().reshape(b * heads, h // heads * s, d)


def _hidden_keys(queries: Tensor, keys: Tensor) -> Tensor:
    """Return which keys lie to the right of a query, shape (h / g * q, k)."""
    steps = torch.arange(keys.shape[2], device=keys.device)
    return (steps[None] > steps[:, None])[: queries.shape[2]].repeat(queries.shape[1] // keys.shape[1], 1)


def _row_slices(queries: Tensor, keys: Tensor) -> list[slice]:
    b, h, q, _ = queries.shape
    at_once = max(1, _SCORE_CELLS // (h * q * keys.shape[2]))
    return [slice(start, start + at_once) for start in range(0, b, at_once)]
