"""Guesses at what a row writes next, looked up in its own text, so that a forward pass may yield several tokens (ADR 57).

A guess costs no model: where the last words stood before, what followed them then may follow again. The student checks all
guessed tokens in one pass and keeps those that it would have written itself, so that answers do not change.
"""

from __future__ import annotations

from collections.abc import Sequence

# What was said after more words in common is likelier to be said again; the longest match decides.
_LONGEST_MATCH = 3

MOST_GUESSED = 7

# A pass takes as long as so many tokens before it has one: weights and caches are read, some hundred operations are begun.
# From 30 to 350 scoring on 2 cores took the same time within 5 % (ADR 57).
_FIXED_COST_TOKENS = 128

# How far one step moves what is known of how often guesses are right.
_MEMORY = 0.9


class TextLookup:
    """A row's text so far, searchable by its last tokens."""

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._text: list[int] = []
        # Where the token stands that last followed these.
        self._followed: dict[tuple[int, ...], int] = {}
        self.extend(token_ids)

    def extend(self, token_ids: Sequence[int]) -> None:
        """Add what was written."""
        text = self._text
        for token in token_ids:
            for length in range(1, min(_LONGEST_MATCH, len(text)) + 1):
                self._followed[tuple(text[-length:])] = len(text)
            text.append(token)

    def guess(self, count: int) -> list[int]:
        """Return `count` tokens that may come next; what repeats itself is taken to go on so. The text has a token."""
        text = self._text
        for length in range(min(_LONGEST_MATCH, len(text)), 0, -1):
            start = self._followed.get(tuple(text[-length:]))
            if start is not None:
                period = len(text) - start
                return [text[start + step % period] for step in range(count)]
        return [text[-1]] * count


class HitRate:
    """How often the first guessed token was right lately, as a share of all rows."""

    def __init__(self) -> None:
        self.share = 0.5

    def learn(self, *, right: int, rows: int) -> None:
        """Take in one pass: of `rows` rows the first guess was right in so many."""
        self.share = _MEMORY * self.share + (1 - _MEMORY) * right / rows


def tokens_worth_guessing(*, hit_rate: float, rows: int) -> int:
    """Return how many tokens to guess in each row so that a step yields most for its cost, 0 to 7.

    A token counts if all before it were right; a pass costs in proportion to its tokens beyond a fixed cost.
    """

    def yield_per_cost(guessed: int) -> float:
        kept = sum(hit_rate**right for right in range(guessed + 1))
        return kept / (_FIXED_COST_TOKENS + rows * (1 + guessed))

    return max(range(MOST_GUESSED + 1), key=yield_per_cost)


def leading_matches(guesses: Sequence[int], tokens: Sequence[int]) -> int:
    """Return how many guesses are right before the first that is wrong."""
    pairs = zip(guesses, tokens, strict=False)
    return next((at for at, (guess, token) in enumerate(pairs) if guess != token), len(guesses))
