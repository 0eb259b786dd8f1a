"""Greedy answers of one batch, over a decoder and a cache: prompts are read once, rows that end leave.

A pass checks guessed tokens besides the one that is certain (`drafting.py`), so that a row may advance by several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from baldistill.student.batching import LEAST_FILLED, LOGITS_AT_ONCE, TOKENS_PER_READ, evenly_long_batches, padded_right
from baldistill.student.decoder import Decoder
from baldistill.student.drafting import MOST_GUESSED, HitRate, TextLookup, leading_matches, tokens_worth_guessing
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
    rows = RowGroups(
        decoder.weights,
        [len(one) for one in prompts],
        prefix=prefix,
        max_new_tokens=max_new_tokens + MOST_GUESSED,
    )
    batch = _Batch(rows, prompts, max_new_tokens=max_new_tokens, stop_ids=stop_ids)
    hidden = _read_all(decoder, rows, prompts, prefix=prefix, device=device)
    batch.begin(_likeliest(decoder, hidden))
    while batch.is_writing:
        read = batch.to_read()
        ids = torch.tensor(read, device=device)
        positions = rows.begin_tokens(ids.shape[1], device=device)
        hidden = decoder.hidden(ids, positions, rows.append)
        batch.take(read, _likeliest(decoder, hidden.flatten(0, 1)))
    return batch.written()


@dataclass(frozen=True, slots=True)
class _Likeliest:
    """The likeliest next token behind each of a pass's tokens and its log-probability, row after row."""

    tokens: list[int]
    log_probabilities: list[float]


def _likeliest(decoder: Decoder, hidden: Tensor) -> _Likeliest:
    """Choose behind each of some tokens. hidden: (n, hidden size)."""
    chosen = _Likeliest([], [])
    for piece in torch.split(hidden, LOGITS_AT_ONCE):
        likelihood, token = torch.log_softmax(decoder.logits(piece), dim=-1).max(dim=-1)
        chosen.tokens.extend(token.tolist())
        chosen.log_probabilities.extend(likelihood.tolist())
    return chosen


class _Row:
    """What one prompt's row wrote so far."""

    def __init__(self, number: int, prompt: Sequence[int]) -> None:
        self.number = number
        self.token_ids: list[int] = []
        self.text = TextLookup(prompt)
        self._nll = 0.0

    def write(self, tokens: Sequence[int], log_probabilities: Sequence[float]) -> None:
        self.token_ids.extend(tokens)
        self.text.extend(tokens)
        self._nll -= sum(log_probabilities)

    def written(self, *, hit_length_limit: bool) -> Written:
        count = len(self.token_ids)
        nll = self._nll / count if count else None
        return Written(token_ids=tuple(self.token_ids), hit_length_limit=hit_length_limit, nll=nll)


class _Batch:
    """Who is still writing, in the order of the cache's rows."""

    def __init__(
        self, rows: RowGroups, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, stop_ids: frozenset[int]
    ) -> None:
        self._rows = rows
        self._limit = max_new_tokens
        self._stop_ids = stop_ids
        self._writing = [_Row(number, prompt) for number, prompt in enumerate(prompts)]
        self._written: dict[int, Written] = {}
        self._hits = HitRate()

    @property
    def is_writing(self) -> bool:
        return bool(self._writing)

    def begin(self, likeliest: _Likeliest) -> None:
        """Give each row its first token, the likeliest behind its prompt."""
        self._write([slice(row, row + 1) for row in range(len(self._writing))], likeliest)

    def to_read(self) -> list[list[int]]:
        """Return what each row wrote last and equally many guesses at what comes then, perhaps none."""
        count = tokens_worth_guessing(hit_rate=self._hits.share, rows=len(self._writing))
        return [[row.token_ids[-1], *row.text.guess(count)] for row in self._writing]

    def take(self, read: Sequence[Sequence[int]], likeliest: _Likeliest) -> None:
        """Give each row the likeliest token behind each of those that were read, as far as these were right."""
        width = len(read[0])
        first_guesses = [row.text.guess(1) for row in self._writing]
        first_tokens = likeliest.tokens[::width]
        right = sum(guess == [token] for guess, token in zip(first_guesses, first_tokens, strict=True))
        self._hits.learn(right=right, rows=len(self._writing))
        new = []
        for row, (_, *guesses) in enumerate(read):
            start = row * width
            new.append(slice(start, start + 1 + leading_matches(guesses, likeliest.tokens[start : start + width])))
        self._rows.keep([one.stop - one.start for one in new])
        self._write(new, likeliest)

    def written(self) -> list[Written]:
        """Return what every prompt's row wrote."""
        return [self._written[number] for number in range(len(self._written))]

    def _write(self, new: Sequence[slice], likeliest: _Likeliest) -> None:
        """Give each row the tokens of its slice; who stops or reaches the limit leaves."""
        ended = []
        for at, (row, own) in enumerate(zip(self._writing, new, strict=True)):
            room = self._limit - len(row.token_ids)
            tokens = likeliest.tokens[own][:room]
            end = next((step for step, token in enumerate(tokens) if token in self._stop_ids), None)
            row.write(tokens[:end], likeliest.log_probabilities[own][: len(tokens[:end])])
            if end is not None or len(row.token_ids) == self._limit:
                self._written[row.number] = row.written(hit_length_limit=end is None)
                ended.append(at)
        for at in reversed(ended):
            last = self._rows.leave(at)
            self._writing[at] = self._writing[last]
            del self._writing[last]


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
    mask = cache.stored.new_full((tokens, start + tokens), float("-inf")).triu(start + 1)

    def attend(layer: int, query: Tensor, key_value: Tensor) -> Tensor:
        return cache.read(layer, query, key_value, rows=own_rows, start=start, mask=mask)

    return decoder.hidden(ids, positions, attend)
