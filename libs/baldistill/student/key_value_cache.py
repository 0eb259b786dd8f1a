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
    """Keys and values of tokens that all prompts begin with. stored: (layers, 2, key-value heads, tokens, head size)."""

    tokens: int
    stored: Tensor


@dataclass(slots=True, kw_only=True)
class KeyValueCache:
    """stored: (layers, 2, rows, key-value heads, width, head size), keys first; a row's tokens lie at its start.

    The tokens of a head lie one behind the other, as attention reads them: a third faster than head beside head (ADR 39).
    What lies behind a row's end, as tokens that were guessed wrong, is hidden by masks and written over.
    """

    stored: Tensor
    scale: float
    _rows: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._rows = torch.arange(self.stored.shape[2], device=self.stored.device)

    @classmethod
    def empty(cls, weights: DecoderWeights, *, rows: int, width: int) -> KeyValueCache:
        """Return room for `rows` texts of at most `width` tokens."""
        shape = (len(weights.layers), 2, rows, weights.key_value_heads, width, weights.head_size)
        return cls(stored=_lazily_zero(shape, dtype=weights.dtype), scale=weights.scale)

    def begin_with(self, prefix: Prefix) -> None:
        """Let all rows begin with the same tokens."""
        self.stored[..., : prefix.tokens, :] = prefix.stored[:, :, None]

    def move(self, *, source: int, target: int, tokens: int) -> None:
        """Put a row in the place of one that ended."""
        self.stored[:, :, target, :, :tokens] = self.stored[:, :, source, :, :tokens]

    def read(self, layer: int, query: Tensor, key_value: Tensor, *, rows: slice, start: int, mask: Tensor) -> Tensor:
        """Store the tokens start.. of `rows` and return what they attend to, (rows, tokens, heads, head size).

        query: (rows, tokens, heads, head size).   key_value: (rows, tokens, 2 x key-value heads, head size).
        mask: (tokens, start + tokens), causal; what is right of a row's end is never looked at later.
        """
        end = start + query.shape[1]
        keys, values = self.stored[layer, :, rows, :, :end]
        keys[:, :, start:], values[:, :, start:] = key_value.transpose(1, 2).chunk(2, dim=1)
        return _attended(query.transpose(1, 2), keys, values, mask=mask, scale=self.scale).transpose(1, 2)

    def append(self, layer: int, query: Tensor, key_value: Tensor, *, positions: Tensor, mask: Tensor) -> Tensor:
        """Store some tokens a row at its own positions and return what they attend to, (rows, tokens, heads, head size).

        positions: (rows, tokens).   mask: `mask_of` these positions.
        """
        count, tokens, heads, head_size = query.shape
        own = self.stored[layer, :, :count]
        key_value_heads = own.shape[2]
        to_store = key_value.view(count, tokens, 2, key_value_heads, head_size)
        own[:, self._rows[:count, None], :, positions] = to_store
        keys, values = own[..., : mask.shape[-1], :]
        # Heads that share keys and values go as so many queries of one head: read once, and by products of more than one row,
        # which in bfloat16 take a fifth of the time (ADR 39).
        by_head = query.view(count, tokens, key_value_heads, heads // key_value_heads, head_size).transpose(1, 2)
        attended = _attended(by_head.flatten(2, 3), keys, values, mask=mask, scale=self.scale)
        return attended.view(by_head.shape).transpose(1, 2).reshape(query.shape)

    def mask_of(self, positions: Tensor, *, heads: int, width: int) -> Tensor:
        """Return what lets tokens see those up to themselves: 0 or -inf, (rows, 1, tokens x heads that share keys, width).

        positions: (rows, tokens).   width: tokens of the longest row, with all of `positions`.
        """
        rows, tokens = positions.shape
        shared = heads // self.stored.shape[3]
        hidden = torch.arange(width, device=positions.device) > positions[..., None, None]
        mask = torch.zeros(hidden.shape, dtype=self.stored.dtype, device=positions.device)
        mask.masked_fill_(hidden, float("-inf"))
        return mask.expand(-1, -1, shared, -1).reshape(rows, 1, tokens * shared, width)


def _lazily_zero(shape: tuple[int, ...], *, dtype: torch.dtype) -> Tensor:
    """Return zeros on the CPU; pages that nothing is written to take no memory (calloc), as most of a cache's do.

    Zeros they must be: attention multiplies what is hidden by 0, and 0 times what a freed NaN left behind is NaN.
    """
    size_bytes = math.prod(shape) * dtype.itemsize
    return torch.from_numpy(np.zeros(size_bytes, dtype=np.uint8)).view(dtype).view(shape)


def attention(query: Tensor, key_value: Tensor, *, scale: float) -> Tensor:
    """Return causal attention's output, (rows, tokens, heads, head size).

    query: (rows, tokens, heads, head size).   key_value: (rows, tokens, 2 x key-value heads, head size).
    """
    keys, values = key_value.transpose(1, 2).chunk(2, dim=1)
    return _attended(query.transpose(1, 2), keys, values, mask=None, scale=scale).transpose(1, 2)


def _attended(query: Tensor, keys: Tensor, values: Tensor, *, mask: Tensor | None, scale: float) -> Tensor:
    """Return attention's output, (rows, heads, tokens, head size), like the query; causal where there is no mask."""
    return nn.functional.scaled_dot_product_attention(
        query, keys, values, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )
