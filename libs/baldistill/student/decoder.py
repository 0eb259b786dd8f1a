"""A decoder's forward pass over weights in memory (ADR 39): what the student reads, writes and is scored by on CPUs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from baldistill.student.decoder_weights import DecoderWeights, LayerWeights

# layer, query (rows, tokens, heads, head size), keys and values (rows, tokens, 2 x key-value heads, head size)
# -> attention's output like the query.
Attend = Callable[[int, Tensor, Tensor], Tensor]

# An MLP's intermediate values of so many tokens stay in the processor's cache.
_TOKENS_AT_ONCE = 512


class Decoder:
    """Computes hidden states and logits. Between layers, in norms and in rotations all is float32."""

    def __init__(self, weights: DecoderWeights) -> None:
        self.weights = weights
        self._cosines = torch.empty(0)
        self._sines = torch.empty(0)

    @torch.inference_mode()
    def hidden(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Return the normed last hidden states, (rows, tokens, hidden size), float32.

        ids, positions: (rows, tokens).
        """
        weights = self.weights
        rows, tokens = ids.shape
        hidden = nn.functional.embedding(ids.flatten(), weights.embedding).float()
        cosines, sines = self._rotations(positions.flatten())
        heads = weights.heads + 2 * weights.key_value_heads
        for number, layer in enumerate(weights.layers):
            projected = layer.query_key_value(self._normed(hidden, layer.attention_norm))
            projected = projected.view(-1, heads, weights.head_size)
            self._rotate(projected, layer, cosines, sines)
            by_row = projected.view(rows, tokens, heads, weights.head_size)
            attended = attend(number, by_row[:, :, : weights.heads], by_row[:, :, weights.heads :])
            hidden += layer.output(attended.reshape(rows * tokens, -1))
            for part in torch.split(hidden, _TOKENS_AT_ONCE):
                part.add_(self._mlp(part, layer))
        normed = nn.functional.rms_norm(hidden, hidden.shape[-1:], weights.final_norm.float(), weights.norm_epsilon)
        return normed.view(rows, tokens, -1)

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Return logits, (n, vocabulary), float32. hidden: (n, hidden size)."""
        return self.weights.head(hidden.to(self.weights.dtype)).float()

    def _mlp(self, hidden: Tensor, layer: LayerWeights) -> Tensor:
        gate, up = layer.gate_up(self._normed(hidden, layer.mlp_norm)).chunk(2, dim=-1)
        return layer.down(nn.functional.silu(gate).mul_(up))

    def _normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        normed = nn.functional.rms_norm(hidden, hidden.shape[-1:], weight.float(), self.weights.norm_epsilon)
        return normed.to(self.weights.dtype)

    def _rotate(self, projected: Tensor, layer: LayerWeights, cosines: Tensor, sines: Tensor) -> None:
        """Turn queries and keys in place. projected: (n, heads of queries, keys and values, head size)."""
        weights = self.weights
        turned = projected[:, : weights.heads + weights.key_value_heads]
        exact = turned.float()
        if layer.query_norm is not None and layer.key_norm is not None:
            size, epsilon = (weights.head_size,), weights.norm_epsilon
            queries, keys = torch.split(exact, [weights.heads, weights.key_value_heads], dim=1)
            queries.copy_(nn.functional.rms_norm(queries, size, layer.query_norm.float(), epsilon))
            keys.copy_(nn.functional.rms_norm(keys, size, layer.key_norm.float(), epsilon))
        first, second = exact.chunk(2, dim=-1)
        new_first = (first * cosines).addcmul_(second, sines, value=-1)
        second.mul_(cosines).addcmul_(first, sines)
        first.copy_(new_first)
        if exact is not turned:
            turned.copy_(exact)

    def _rotations(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of positions, (n, 1, half a head), float32."""
        last = int(positions.max())
        if last >= len(self._cosines):
            # Doubled, so that a growing text asks seldom.
            all_positions = torch.arange(2 * (last + 1), device=positions.device)
            anything = torch.empty(0, dtype=torch.float32, device=positions.device)
            cosines, sines = self.weights.rotary(anything, all_positions[None])
            half = self.weights.head_size // 2
            self._cosines, self._sines = cosines[0, :, :half].contiguous(), sines[0, :, :half].contiguous()
        return self._cosines[positions, None], self._sines[positions, None]
