"""Causal attention of a pack: prefix to itself, rows to the prefix and to themselves, never to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from baldistill.student.packed.kernels import attend, attend_backward
from baldistill.student.packed.packing import Pack, RowGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadShape:
    """heads: of queries.   key_heads: of keys and values.   size: of one head."""

    heads: int
    key_heads: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Rotary position encoding of a pack's tokens: cosines and sines, shape (t, 1, size), float32, both halves alike."""

    cos: Tensor
    sin: Tensor

    def turn(self, x: Tensor, *, backwards: bool = False) -> None:
        """Rotate heads in place, shape (t, heads, size), float32."""
        half = x.shape[-1] // 2
        first, second = x[..., :half], x[..., half:]
        cos, sin = self.cos[..., :half], self.sin[..., :half]
        sign = -1 if backwards else 1
        turned = (first * cos).addcmul_(second, sin, value=-sign)
        second.mul_(cos).addcmul_(first, sin, value=sign)
        first.copy_(turned)


class PackedAttention(torch.autograd.Function):
    """Attention over projected tokens, shape (t, (heads + 2 * key_heads) * size) -> (t, heads * size).

    All of it is in float32, for which tokens are converted once: each part of the attention takes its share of them.
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, rotation: Rotation, pack: Pack, shape: HeadShape) -> Tensor:
        """Attend part by part and join the parts by their normalisers."""
        t, p = len(projected), pack.prefix
        ready = projected.view(t, -1, shape.size).to(torch.float32, copy=True)
        rotation.turn(ready[:, : shape.heads + shape.key_heads])
        out = torch.empty(t, shape.heads, shape.size, device=projected.device)
        normaliser = torch.empty(t, shape.heads, device=projected.device)

        if p:
            own, norm = attend(*_one(ready[:p], shape), causal=True)
            out[:p], normaliser[:p] = own[0].transpose(0, 1), norm[0].t()
        for group in pack.groups:
            own, norm = attend(*_heads(group.rows_of(ready), shape), causal=True)
            out[group.tokens], normaliser[group.tokens] = _tokens(own, group), _tokens(norm, group)
        if p:
            queries, keys, values = _one(ready, shape)
            own, norm = attend(queries[..., p:, :], keys[..., :p, :], values[..., :p, :], causal=False)
            _join(out[p:], normaliser[p:], own[0].transpose(0, 1), norm[0].t())

        result = out.to(projected.dtype)
        ctx.save_for_backward(ready, result, normaliser)
        ctx.rotation, ctx.pack, ctx.shape = rotation, pack, shape
        return result.view(t, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Sum over the parts what flows back through each."""
        ready, result, normaliser = ctx.saved_tensors
        pack, shape = ctx.pack, ctx.shape
        t, p = len(ready), pack.prefix
        gradient, output = gradients[0].view(result.shape).float(), result.float()
        summed = torch.empty_like(ready)
        parts = _split(summed, shape)

        def flow_back(part: slice, of_keys: slice, *, causal: bool) -> list[Tensor]:
            whole = [one.transpose(0, 1)[None] for one in (gradient[part], output[part], normaliser[part])]
            (queries, _, _), (_, keys, values) = _one(ready[part], shape), _one(ready[of_keys], shape)
            found = _backward(*whole, queries, keys, values, causal=causal)
            return [one[0].transpose(0, 1) for one in found]

        if p:
            for part, found in zip(parts, flow_back(slice(p), slice(p), causal=True), strict=True):
                part[:p] = found
        for group in pack.groups:
            whole = [group.rows_of(one) for one in (gradient, output, normaliser)]
            if group.missing is not None:
                # Else what is missing would count its row's last token again.
                whole[0].masked_fill_(group.missing[..., None, None], 0)
            rows = [one.transpose(1, 2) for one in whole]
            of_group = _backward(*rows, *_heads(group.rows_of(ready), shape), causal=True)
            for part, found in zip(parts, of_group, strict=True):
                part[group.tokens] = _tokens(found, group)
        if p:
            to_queries, to_keys, to_values = flow_back(slice(p, t), slice(p), causal=False)
            parts[0][p:] += to_queries
            parts[1][:p] += to_keys
            parts[2][:p] += to_values

        ctx.rotation.turn(summed[:, : shape.heads + shape.key_heads], backwards=True)
        return summed.to(result.dtype).view(t, -1), None, None, None


def _backward(*tensors: Tensor, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    gradient, output, normaliser, queries, keys, values = tensors
    return attend_backward(gradient, queries, keys, values, output=output, log_normaliser=normaliser, causal=causal)


def _split(x: Tensor, shape: HeadShape) -> tuple[Tensor, ...]:
    """Views of queries, keys and values: (..., heads + 2 * key_heads, d)."""
    return torch.split(x, [shape.heads, shape.key_heads, shape.key_heads], dim=-2)


def _heads(rows: Tensor, shape: HeadShape) -> tuple[Tensor, ...]:
    """Queries, keys and values of rows: (rows, longest, heads + 2 * key_heads, d) -> (rows, h, longest, d) each."""
    return tuple(one.transpose(1, 2) for one in _split(rows, shape))


def _one(tokens: Tensor, shape: HeadShape) -> tuple[Tensor, ...]:
    """Queries, keys and values of tokens as one row: (t, heads + 2 * key_heads, d) -> (1, h, t, d) each."""
    return _heads(tokens[None], shape)


def _tokens(x: Tensor, group: RowGroup) -> Tensor:
    """A group's rows as tokens: (rows, h, longest, ...) -> (tokens of the group, h, ...)."""
    cells = x.transpose(1, 2).flatten(0, 1)
    return cells if group.real is None else cells.flatten(1).index_select(0, group.real).view(-1, *cells.shape[1:])


def _join(out: Tensor, normaliser: Tensor, other: Tensor, other_normaliser: Tensor) -> None:
    """Make two softmaxes over different keys one, in place: (t, h, d) and (t, h)."""
    joined = torch.logaddexp(normaliser, other_normaliser)
    out.mul_((normaliser - joined).exp_()[..., None])
    out.addcmul_(other, (other_normaliser - joined).exp_()[..., None])
    normaliser.copy_(joined)
