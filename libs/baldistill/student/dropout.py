"""Dropout that a run's seed alone decides."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Keep or drop is decided by 8 random bits an element, and what is finer than that by 16 more for all elements of a
# token: the rate is off by at most 2^-25.
_LEVELS = 1 << 8
_FINE_LEVELS = 1 << 16
_LOWEST_INT64 = -(1 << 63)


class DropoutMasks:
    """Which elements are kept, drawn from a generator of its own.

    torch's dropout draws from the global generator, which other threads of the process move on, and one number per
    element, a third of the time of an adapter's forward pass; eight elements share one 64-bit draw here.
    """

    def __init__(self, p: float, *, rng: torch.Generator) -> None:
        """p: the share of elements that are dropped."""
        self.scale = 1 / (1 - p)
        self._p = p
        self._rng = rng

    def draw(self, shape: torch.Size, *, device: torch.device) -> Tensor:
        """Return True for what is kept, with probability 1 - p each; the last dimension is a token's."""
        level = self._random(shape.numel(), torch.int8, device=device).view(shape)
        tokens = shape.numel() // shape[-1]
        fine = self._random(tokens, torch.int16, device=device).to(torch.int32).view(*shape[:-1], 1) + _FINE_LEVELS // 2
        whole = int(self._p * _LEVELS)
        rest = round((self._p * _LEVELS - whole) * _FINE_LEVELS)
        # int8 runs from -2^7: the lowest `whole` or `whole + 1` of all 2^8 levels are dropped.
        dropped = (fine < rest).to(torch.int16) + (whole - _LEVELS // 2)
        return level >= dropped

    def _random(self, count: int, dtype: torch.dtype, *, device: torch.device) -> Tensor:
        draws = torch.empty(-(-count * dtype.itemsize // 8), dtype=torch.int64, device=device)
        draws.random_(_LOWEST_INT64, None, generator=self._rng)
        return draws.view(dtype)[:count]


class SeededDropout(nn.Module):
    """Inverted dropout from a generator of its own."""

    def __init__(self, p: float, *, rng: torch.Generator) -> None:
        super().__init__()
        self.p = p
        self.masks = DropoutMasks(p, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with a share `p` of its elements zeroed and the rest scaled by 1 / (1 - p); any shape."""
        if not self.training or self.p == 0:
            return x
        return x * self.masks.draw(x.shape, device=x.device) * self.masks.scale
