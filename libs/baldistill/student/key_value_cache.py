"""Keys and values of the rows of a batch, in memory that is taken once; rows that end leave no gap."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from baldistill.student.decoder_weights import DecoderWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """Keys and values of tokens that all prompts begin with. stored: (layers, tokens, 2 x key-value heads, head size)."""

    tokens: int
    stored: Tensor


@dataclass(slots=True, kw_only=True)
class KeyValueCache:
    """stored: (layers, rows, width, 2 x key-value heads, head size), keys first; a row's tokens lie at its start.

    visible: what is added to attention scores, (rows, width): 0 where a token lies, -inf elsewhere.
    """

    stored: Tensor
    visible: Tensor
    scale: float
    _rows: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._rows = torch.arange(self.stored.shape[1], device=self.stored.device)

    @classmethod
    def empty(cls, weights: DecoderWeights, *, rows: int, width: int) -> KeyValueCache:
        """Return room for `rows` texts of at most `width` tokens."""
        shape = (len(weights.layers), rows, width, 2 * weights.key_value_heads, weights.head_size)
        device = weights.embedding.device
        return cls(
            stored=_lazily_zero(shape, dtype=weights.dtype),
            visible=torch.full((rows, width), float("-inf"), dtype=weights.dtype, device=device),
            scale=weights.scale,
        )

    def begin_with(self, prefix: Prefix) -> None:
        """Let all rows begin with the same tokens."""
        self.stored[:, :, : prefix.tokens] = prefix.stored[:, None]

    def show(self, row: int, *, tokens: int) -> None:
        """Say how many tokens a row holds."""
        self.visible[row, :tokens] = 0

    def move(self, *, source: int, target: int, tokens: int) -> None:
        """Put a row in the place of one that ended."""
        self.stored[:, target, :tokens] = self.stored[:, source, :tokens]
        self.visible[target] = self.visible[source]

    def read(self, layer: int, query: Tensor, key_value: Tensor, *, rows: slice, start: int, mask: Tensor) -> Tensor:
        """Store the tokens start.. of `rows` and return what they attend to, (rows, tokens, heads, head size).

        query: (rows, tokens, heads, head size).   key_value: (rows, tokens, 2 x key-value heads, head size).
        mask: (tokens, start + tokens), causal; what is right of a row's end is never looked at later.
        """
        end = start + query.shape[1]
        own = self.stored[layer, rows]
        own[:, start:end] = key_value
        return attention(query, own[:, :end], mask=mask, scale=self.scale)

    def append(self, layer: int, query: Tensor, key_value: Tensor, *, positions: Tensor, width: int) -> Tensor:
        """Store one token a row at its own position and return what it attends to, (rows, 1, heads, head size).

        width: tokens of the longest row, this one included; `visible` shows this token already.
        """
        count = query.shape[0]
        own = self.stored[layer, :count]
        own[self._rows[:count], positions] = key_value[:, 0]
        return attention(query, own[:, :width], mask=self.visible[:count, None, None, :width], scale=self.scale)


def _lazily_zero(shape: tuple[int, ...], *, dtype: torch.dtype) -> Tensor:
    """Return zeros on the CPU; pages that nothing is written to take no memory (calloc), as most of a cache's do.

    Zeros they must be: attention multiplies what is hidden by 0, and 0 times what a freed NaN left behind is NaN.
    """
    size_bytes = math.prod(shape) * dtype.itemsize
    return torch.from_numpy(np.zeros(size_bytes, dtype=np.uint8)).view(dtype).view(shape)


def attention(query: Tensor, key_value: Tensor, *, mask: Tensor | None, scale: float) -> Tensor:
    """Return attention's output, (rows, tokens, heads, head size); causal where there is no mask.

    query: (rows, tokens, heads, head size).   key_value: (rows, tokens so far, 2 x key-value heads, head size).
    """
    key, value = key_value.transpose(1, 2).chunk(2, dim=1)
    return nn.functional.scaled_dot_product_attention(
        query.transpose(1, 2), key, value, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
    ).transpose(1, 2)
