"""What a decoder layer consists of beside attention, each with a backward pass that makes no tensor it can do without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from baldistill.student.dropout import SeededDropout


class RmsNorm(torch.autograd.Function):
    """x / rms(x) * weight over the last dimension, computed in float32; the weight is frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Normalise tokens, shape (t, hidden)."""
        hidden = x.float()
        inverse = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        normed: Tensor = (hidden * inverse).to(x.dtype)
        return normed.mul_(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of x."""
        x, weight, inverse = ctx.saved_tensors
        normed = x.float().mul_(inverse)
        gradient = gradients[0].float().mul_(weight)
        mean = (gradient * normed).mean(dim=-1, keepdim=True)
        return gradient.addcmul_(normed, mean, value=-1).mul_(inverse).to(x.dtype), None, None


class Swiglu(torch.autograd.Function):
    """silu(gate) * up, both halves of one tensor, shape (t, 2 * inner) -> (t, inner)."""

    @staticmethod
    def forward(ctx: Any, gate_and_up: Tensor) -> Tensor:
        """Gate."""
        ctx.save_for_backward(gate_and_up)
        gate, up = gate_and_up.chunk(2, dim=-1)
        return nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return the gradient of both halves."""
        (gate_and_up,) = ctx.saved_tensors
        gate, up = gate_and_up.chunk(2, dim=-1)
        both = torch.empty_like(gate_and_up)
        to_gate, to_up = both.chunk(2, dim=-1)
        torch.mul(nn.functional.silu(gate), gradients[0], out=to_up)
        torch.ops.aten.silu_backward.grad_input(gradients[0] * up, gate, grad_input=to_gate)
        return both


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """LoRA beside some outputs of a frozen layer. a: shape (r, in).   b: (out, r), both float32.   outputs: which."""

    a: nn.Parameter
    b: nn.Parameter
    scale: float
    outputs: slice


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptedLinear:
    """Frozen layers that read the same input, as one product, and the adapters beside them.

    weight: shape (out, in).   dropout: of what the adapters read, while training; they share one mask.
    """

    weight: Tensor
    bias: Tensor | None
    adapters: tuple[Adapter, ...]
    dropout: SeededDropout | None

    def __call__(self, x: Tensor) -> Tensor:
        """Project tokens, shape (t, in) -> (t, out)."""
        if not self.adapters:
            return nn.functional.linear(x, self.weight, self.bias)
        kept = None
        if self.dropout is not None and self.dropout.training:
            kept = self.dropout.masks.draw(x.shape, device=x.device)
        matrices = [matrix for one in self.adapters for matrix in (one.a, one.b)]
        projected: Tensor = _AdaptedLinear.apply(x, self, kept, *matrices)
        return projected


class _AdaptedLinear(torch.autograd.Function):
    """weight x + scale * b (a dropout(x)), the adapters in float32 whatever the frozen layer computes in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: AdaptedLinear, kept: Tensor | None, *matrices: Tensor) -> Tensor:
        out = nn.functional.linear(x, layer.weight, layer.bias)
        # Dropout's scale comes in where tensors are small.
        low = torch.mm(_read_by_adapters(x, kept), torch.cat(matrices[::2]).t()).mul_(_dropout_scale(layer, kept))
        for adapter, own in zip(layer.adapters, _by_adapter(low, layer.adapters), strict=True):
            part = out[:, adapter.outputs]
            part.copy_(torch.addmm(part.float(), own, adapter.b.t(), alpha=adapter.scale))
        ctx.save_for_backward(x, kept, low)
        ctx.layer = layer
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, kept, low = ctx.saved_tensors
        layer: AdaptedLinear = ctx.layer
        gradient = gradients[0]
        to_low = torch.empty_like(low)
        to_b = []
        parts = zip(_by_adapter(low, layer.adapters), _by_adapter(to_low, layer.adapters), strict=True)
        for adapter, (own, to_own) in zip(layer.adapters, parts, strict=True):
            of_outputs = gradient[:, adapter.outputs].float()
            to_own.copy_(torch.mm(of_outputs, adapter.b).mul_(adapter.scale))
            to_b.append(torch.mm(of_outputs.t(), own).mul_(adapter.scale))
        to_low.mul_(_dropout_scale(layer, kept))
        to_a = torch.split(torch.mm(to_low.t(), _read_by_adapters(x, kept)), [len(one.a) for one in layer.adapters])
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = torch.mm(gradient, layer.weight)
            of_adapters = torch.mm(to_low, torch.cat([one.a for one in layer.adapters]))
            to_x += of_adapters if kept is None else of_adapters.mul_(kept)
        return to_x, None, None, *(one for pair in zip(to_a, to_b, strict=True) for one in pair)


def _read_by_adapters(x: Tensor, kept: Tensor | None) -> Tensor:
    read = x.float()
    return read if kept is None else read * kept


def _dropout_scale(layer: AdaptedLinear, kept: Tensor | None) -> float:
    return 1.0 if kept is None or layer.dropout is None else layer.dropout.masks.scale


def _by_adapter(low: Tensor, adapters: Sequence[Adapter]) -> tuple[Tensor, ...]:
    return torch.split(low, [len(one.a) for one in adapters], dim=1)
