"""The rows of a batch in groups of about equal length, each with a cache of its own.

Attention over one cache reads every row up to the longest's end: one text of 800 tokens among sixty of 150 makes five times the work.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from baldistill.student.batching import evenly_long_batches
from baldistill.student.decoder_weights import DecoderWeights
from baldistill.student.key_value_cache import KeyValueCache, Prefix

# Each further group costs calls of its own in every layer.
_LEAST_OF_THE_LONGEST = 0.5


@dataclass(slots=True, eq=False)
class _Group:
    cache: KeyValueCache
    lengths: list[int]


@dataclass(frozen=True, slots=True)
class _Step:
    """What a group attends to in one pass. rows: of the batch.   positions, mask: of the new tokens."""

    cache: KeyValueCache
    rows: slice
    positions: Tensor
    mask: Tensor


class RowGroups:
    """Rows that are still writing, numbered group after group; who leaves is replaced by its group's last."""

    def __init__(
        self, weights: DecoderWeights, prompt_tokens: Sequence[int], *, prefix: Prefix, max_new_tokens: int
    ) -> None:
        """prompt_tokens: what each row has of its own behind the prefix; longest first makes the fewest groups.

        max_new_tokens: those that a row may store, whether they are kept or not.
        """
        lengths = [prefix.tokens + one for one in prompt_tokens]
        any_size = max(lengths) * len(lengths)
        pieces = evenly_long_batches(lengths, max_tokens=any_size, least_filled=_LEAST_OF_THE_LONGEST)
        self._groups: list[_Group] = []
        for piece in pieces:
            own = lengths[piece.start : piece.stop]
            cache = KeyValueCache.empty(weights, rows=len(own), width=max(own) + max_new_tokens)
            cache.begin_with(prefix)
            self._groups.append(_Group(cache, own))
        self._heads = weights.heads
        self._step: list[_Step] = []

    def caches(self) -> Iterator[tuple[slice, KeyValueCache]]:
        """Yield which rows of the batch lie in which cache."""
        for start, group in self._numbered():
            yield slice(start, start + len(group.lengths)), group.cache

    def leave(self, row: int) -> int:
        """Let a row go. Return the row that took its place; those behind that one have a number less now."""
        start, group = next((start, group) for start, group in self._numbered() if row < start + len(group.lengths))
        own, last = row - start, len(group.lengths) - 1
        if own != last:
            group.cache.move(source=last, target=own, tokens=group.lengths[last])
        group.lengths[own] = group.lengths[last]
        group.lengths.pop()
        if not group.lengths:
            self._groups.remove(group)
        return start + last

    def begin_tokens(self, count: int, *, device: torch.device) -> Tensor:
        """Let each row store `count` tokens behind its end and return their positions, (rows, count)."""
        self._step = []
        ahead = torch.arange(count, device=device)
        for start, group in self._numbered():
            positions = torch.tensor(group.lengths, device=device)[:, None] + ahead
            mask = group.cache.mask_of(positions, heads=self._heads, width=max(group.lengths) + count)
            self._step.append(_Step(group.cache, slice(start, start + len(group.lengths)), positions, mask))
        return torch.cat([one.positions for one in self._step])

    def append(self, layer: int, query: Tensor, key_value: Tensor) -> Tensor:
        """Store the begun tokens of every row and return what they attend to, (rows, tokens, heads, head size)."""
        attended = [
            one.cache.append(layer, query[one.rows], key_value[one.rows], positions=one.positions, mask=one.mask)
            for one in self._step
        ]
        return attended[0] if len(attended) == 1 else torch.cat(attended)

    def keep(self, counts: Sequence[int]) -> None:
        """Move each row's end behind the first so many of its stored tokens."""
        kept = iter(counts)
        for group in self._groups:
            group.lengths = [length + next(kept) for length in group.lengths]

    def _numbered(self) -> Iterator[tuple[int, _Group]]:
        """Yield the groups with the number of their first row."""
        starts = itertools.accumulate((len(one.lengths) for one in self._groups), initial=0)
        return zip(starts, self._groups, strict=False)
