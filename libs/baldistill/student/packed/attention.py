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

    def of(self, x: Tensor, *, backwards: bool = False) -> Tensor:
        """Rotate heads, shape (t, heads, size), float32."""
        first, second = x.chunk(2, dim=-1)
        sin = (-self.sin if backwards else self.sin)[..., : x.shape[-1] // 2]
        turned = x * self.cos
        turned[..., : x.shape[-1] // 2].addcmul_(second, sin, value=-1)
        turned[..., x.shape[-1] // 2 :].addcmul_(first, sin)
        return turned


class PackedAttention(torch.autograd.Function):
    """Attention over projected tokens, shape (t, (heads + 2 * key_heads) * size) -> (t, heads * size)."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, rotation: Rotation, pack: Pack, shape: HeadShape) -> Tensor:
        """Attend part by part and join the parts by their normalisers."""
        t, p = len(projected), pack.prefix
        turned = shape.heads + shape.key_heads
        ready = projected.view(t, -1, shape.size).clone()
        ready[:, :turned] = rotation.of(ready[:, :turned].float())
        queries, keys, values = torch.split(ready, [shape.heads, shape.key_heads, shape.key_heads], dim=1)
        out = torch.empty(t, shape.heads, shape.size, device=projected.device)
        normaliser = torch.empty(t, shape.heads, device=projected.device)

        if p:
            own, norm = attend(*(_one(x[:p]) for x in (queries, keys, values)), causal=True)
            out[:p], normaliser[:p] = own[0].transpose(0, 1), norm[0].t()
        for group in pack.groups:
            own, norm = attend(*(_rows(x, group) for x in (queries, keys, values)), causal=True)
            out[group.tokens], normaliser[group.tokens] = _tokens(own, group), _tokens(norm, group)
        if p:
            own, norm = attend(_one(queries[p:]), _one(keys[:p]), _one(values[:p]), causal=False)
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
        queries, keys, values = torch.split(ready, [shape.heads, shape.key_heads, shape.key_heads], dim=1)
        gradient = gradients[0].view(t, shape.heads, shape.size)
        summed = torch.empty(ready.shape, device=ready.device)
        parts = torch.split(summed, [shape.heads, shape.key_heads, shape.key_heads], dim=1)

        if p:
            tensors = [_one(x[:p]) for x in (gradient, queries, keys, values, result, normaliser)]
            for part, found in zip(parts, _backward(*tensors, causal=True), strict=True):
                part[:p] = found[0].transpose(0, 1)
        for group in pack.groups:
            tensors = [_rows(x, group) for x in (gradient, queries, keys, values, result, normaliser)]
            if group.missing is not None:
                # Else what is missing would count its row's last token again.
                tensors[0] = tensors[0].masked_fill(group.missing[:, None, :, None], 0)
            for part, found in zip(parts, _backward(*tensors, causal=True), strict=True):
                part[group.tokens] = _tokens(found, group)
        if p:
            at = (slice(p, t), slice(p, t), slice(0, p), slice(0, p), slice(p, t), slice(p, t))
            tensors = [
                _one(x[part]) for x, part in zip((gradient, queries, keys, values, result, normaliser), at, strict=True)
            ]
            across = _backward(*tensors, causal=False)
            for part, found, own in zip(parts, across, at[1:4], strict=True):
                part[own] += found[0].transpose(0, 1)

        turned = shape.heads + shape.key_heads
        summed[:, :turned] = ctx.rotation.of(summed[:, :turned], backwards=True)
        return summed.to(ready.dtype).view(t, -1), None, None, None


def _backward(*tensors: Tensor, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    gradient, queries, keys, values, output, normaliser = tensors
    return attend_backward(gradient, queries, keys, values, output=output, log_normaliser=normaliser, causal=causal)


def _one(x: Tensor) -> Tensor:
    """Tokens as one row: (t, h, ...) -> (1, h, t, ...)."""
    return x.transpose(0, 1)[None]


def _rows(x: Tensor, group: RowGroup) -> Tensor:
    """A group's tokens as rows: (t, h, ...) -> (rows, h, longest, ...)."""
    return x[group.cells].transpose(1, 2)


def _tokens(x: Tensor, group: RowGroup) -> Tensor:
    """A group's rows as tokens: (rows, h, longest, ...) -> (tokens of the group, h, ...)."""
    cells = x.transpose(1, 2).flatten(0, 1)
    return cells if group.real is None else cells[group.real]


def _join(out: Tensor, normaliser: Tensor, other: Tensor, other_normaliser: Tensor) -> None:
    """Make two softmaxes over different keys one, in place: (t, h, d) and (t, h)."""
    joined = torch.logaddexp(normaliser, other_normaliser)
    out.mul_((normaliser - joined).exp_()[..., None])
    out.addcmul_(other, (other_normaliser - joined).exp_()[..., None])
    normaliser.copy_(joined)
