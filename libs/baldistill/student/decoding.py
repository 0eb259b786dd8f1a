"""Greedy answers of one batch, over a decoder and a cache: prompts are read once, rows that end leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from baldistill.student.batching import LEAST_FILLED, TOKENS_PER_READ, evenly_long_batches, padded_right
from baldistill.student.decoder import Decoder
from baldistill.student.key_value_cache import KeyValueCache, Prefix
from baldistill.student.row_groups import RowGroups


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a row wrote. token_ids: without the one that ended it.   nll: their mean in nats, None where there is none."""

    token_ids: tuple[int, ...]
    hit_length_limit: bool
    nll: float | None


@torch.inference_mode()
def read_prefix(decoder: Decoder, ids: Sequence[int], *, device: torch.device) -> Prefix:
    """Read what all prompts begin with, once."""
    cache = KeyValueCache.empty(decoder.weights, rows=1, width=max(1, len(ids)))
    if ids:
        _read(decoder, cache, [ids], first_row=0, start=0, device=device)
    return Prefix(tokens=len(ids), stored=cache.stored[:, :, 0, :, : len(ids)])


@torch.inference_mode()
def write_greedily(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    prefix: Prefix,
    max_new_tokens: int,
    stop_ids: frozenset[int],
    device: torch.device,
) -> list[Written]:
    """Return what follows each prompt, in their order; longest first is the fastest order.

    prompts: what comes after the prefix, at least one token each.
    """
    rows = RowGroups(decoder.weights, [len(one) for one in prompts], prefix=prefix, max_new_tokens=max_new_tokens)
    logits = decoder.logits(_read_all(decoder, rows, prompts, prefix=prefix, device=device))
    batch = _Batch(rows, count=len(prompts), stop_ids=stop_ids)
    for step in range(max_new_tokens):
        tokens = batch.take(logits)
        if step == max_new_tokens - 1 or not tokens:
            break
        ids = torch.tensor(tokens, device=device)[:, None]
        positions = rows.begin_token(device=device)[:, None]
        logits = decoder.logits(decoder.hidden(ids, positions, rows.append)[:, 0])
    return batch.written()


class _Batch:
    """Who is still writing. Row `at` belongs to prompt `prompt_of[at]`."""

    def __init__(self, rows: RowGroups, *, count: int, stop_ids: frozenset[int]) -> None:
        self._rows = rows
        self._stop_ids = stop_ids
        self._prompt_of = list(range(count))
        self._tokens: list[list[int]] = [[] for _ in range(count)]
        self._nll: list[float] = [0.0] * count

    def take(self, logits: Tensor) -> list[int]:
        """Give each row its likeliest token; who ends leaves. Returns the tokens of those that are left, by row.

        logits: (rows, vocabulary).
        """
        likelihood, chosen = torch.log_softmax(logits, dim=-1).max(dim=-1)
        tokens: list[int] = chosen.tolist()
        for row, (token, log_probability) in enumerate(zip(tokens, likelihood.tolist(), strict=True)):
            if token not in self._stop_ids:
                prompt = self._prompt_of[row]
                self._tokens[prompt].append(token)
                self._nll[prompt] -= log_probability
        for row in reversed(range(len(tokens))):
            if tokens[row] in self._stop_ids:
                last = self._rows.leave(row)
                for values in (tokens, self._prompt_of):
                    values[row] = values[last]
                    del values[last]
        return tokens

    def written(self) -> list[Written]:
        """Return what every prompt's row wrote. Who is still there was cut."""
        cut = frozenset(self._prompt_of)
        return [
            Written(token_ids=tuple(ids), hit_length_limit=prompt in cut, nll=nll / len(ids) if ids else None)
            for prompt, (ids, nll) in enumerate(zip(self._tokens, self._nll, strict=True))
        ]


def _read_all(
    decoder: Decoder,
    groups: RowGroups,
    prompts: Sequence[Sequence[int]],
    *,
    prefix: Prefix,
    device: torch.device,
) -> Tensor:
    """Read all prompts and return the hidden state behind each, (prompts, hidden size)."""
    last = []
    for of_group, cache in groups.caches():
        own = prompts[of_group]
        for piece in evenly_long_batches(
            [len(one) for one in own], max_tokens=TOKENS_PER_READ, least_filled=LEAST_FILLED
        ):
            rows = own[piece.start : piece.stop]
            hidden = _read(decoder, cache, rows, first_row=piece.start, start=prefix.tokens, device=device)
            ends = torch.tensor([len(one) - 1 for one in rows], device=device)
            last.append(hidden[torch.arange(len(rows), device=device), ends])
    return torch.cat(last)


def _read(
    decoder: Decoder,
    cache: KeyValueCache,
    rows: Sequence[Sequence[int]],
    *,
    first_row: int,
    start: int,
    device: torch.device,
) -> Tensor:
    """Read tokens into rows that hold `start` tokens; returns hidden states, (rows, longest, hidden size)."""
    ids = padded_right(rows, device=device)
    tokens = ids.shape[1]
    positions = torch.arange(start, start + tokens, device=device).expand(ids.shape)
    own_rows = slice(first_row, first_row + len(rows))
    mask = cache.visible.new_full((tokens, start + tokens), float("-inf")).triu(start + 1)

    def attend(layer: int, query: Tensor, key_value: Tensor) -> Tensor:
        return cache.read(layer, query, key_value, rows=own_rows, start=start, mask=mask)

    return decoder.hidden(ids, positions, attend)
