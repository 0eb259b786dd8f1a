"""Products with a weight that is laid out once as the processor's library reads it best (ADR 39)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# A layout is chosen for so many rows; from 1 to 600 none was slower than the one for 1 row.
_ROWS_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """x -> x W^T + b. weight: shape (out, in); in a layout that only oneDNN knows where `is_packed`."""

    weight: Tensor
    bias: Tensor | None
    is_packed: bool

    def __call__(self, x: Tensor) -> Tensor:
        """x: (n, in). Returns (n, out)."""
        if self.is_packed:
            product: Tensor = _onednn()._linear_pointwise(x, self.weight, self.bias, "none", [], "")  # noqa: SLF001
            return product
        return nn.functional.linear(x, self.weight, self.bias)


def projection(weight: Tensor, bias: Tensor | None = None) -> Projection:
    """Return a projection by a copy of `weight` in oneDNN's layout, or by `weight` itself where there is none for it."""
    if not _can_pack(weight):
        return Projection(weight=weight, bias=bias, is_packed=False)
    packed = _onednn()._reorder_linear_weight(weight, _ROWS_AT_ONCE)  # noqa: SLF001
    return Projection(weight=packed, bias=bias, is_packed=True)


def _can_pack(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if weight.dtype is torch.bfloat16:
        return bool(_onednn()._is_mkldnn_bf16_supported())  # noqa: SLF001
    return weight.dtype is torch.float32


def _onednn() -> Any:
    """Return what torch's own compiler calls for weights that do not change; torch has no public name for it.

    Asked for late: builds without oneDNN, as for some laptops, have no such names.
    """
    return torch.ops.mkldnn
