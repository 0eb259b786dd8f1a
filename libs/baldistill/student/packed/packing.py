"""How rows become one pass without padding: the prefix that all share comes once, then each row's own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from baldistill.student.scoring import PromptAndTarget

# Rows attend to themselves in padded groups. Of a group's cells at least this share is text, unless its rows are so
# short that their attention costs nothing beside their matrix products.
_LEAST_FILLED = 0.75
_SHORT_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroup:
    """Rows of about equal length, whose own tokens lie one behind the other in a pack.

    tokens: of the pack.   cells: for each row and step of the longest, which token of the pack, shape (rows, longest); a
    missing one is its row's last.   real: numbers of the cells that are not missing, (tokens,), and missing: which are,
    (rows, longest); both None where all rows are equally long.
    """

    tokens: slice
    cells: Tensor
    real: Tensor | None
    missing: Tensor | None

    def rows_of(self, x: Tensor) -> Tensor:
        """Return a pack's tokens as this group's rows, a copy: (t, ...) -> (rows, longest, ...)."""
        # A token's numbers as one row: torch copies those in half the time.
        return x.flatten(1).index_select(0, self.cells.flatten()).view(*self.cells.shape, *x.shape[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Tokens of several rows as one sequence of t tokens.

    ids, positions: shape (t,); a position is what the token has in its own row.   prefix: how many tokens at the
    beginning are all rows' first ones.   predicting: tokens that predict a target token, in the order of the rows as
    they were given; wanted: which. Both (target tokens,).
    """

    ids: Tensor
    positions: Tensor
    prefix: int
    groups: tuple[RowGroup, ...]
    predicting: Tensor
    wanted: Tensor


def pack_rows(pairs: Sequence[PromptAndTarget], *, device: torch.device) -> Pack:
    """Lay rows of prompt and target behind each other, longest first, their common prefix once.

    The last target token predicts nothing and is left out. Raises ValueError for an empty prompt or target.
    """
    if any(not prompt or not target for prompt, target in pairs):
        raise ValueError("a row needs at least one token of prompt and one of target")
    prefix = shared_prefix_length([prompt for prompt, _ in pairs])
    rows = [[*prompt[prefix:], *target[:-1]] for prompt, target in pairs]
    order = sorted(range(len(rows)), key=lambda row: (-len(rows[row]), row))

    ids, positions = list(pairs[0][0][:prefix]), list(range(prefix))
    starts: dict[int, int] = {}
    for row in order:
        starts[row] = len(ids)
        ids += rows[row]
        positions += range(prefix, prefix + len(rows[row]))
    predicting = [
        starts[row] + len(prompt) - prefix - 1 + step
        for row, (prompt, target) in enumerate(pairs)
        for step in range(len(target))
    ]
    groups = _grouped([(starts[row], len(rows[row])) for row in order])
    return Pack(
        ids=torch.tensor(ids, device=device),
        positions=torch.tensor(positions, device=device),
        prefix=prefix,
        groups=tuple(_group(group, device=device) for group in groups),
        predicting=torch.tensor(predicting, device=device),
        wanted=torch.tensor([token for _, target in pairs for token in target], device=device),
    )


def shared_prefix_length(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many first tokens all prompts share; each keeps its last token, which predicts its target."""
    first = prompts[0]
    shared = min(len(prompt) for prompt in prompts) - 1
    for prompt in prompts[1:]:
        if tuple(prompt[:shared]) != tuple(first[:shared]):
            shared = next(at for at in range(shared) if prompt[at] != first[at])
    return shared


def _grouped(rows: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Cut rows (start, length), longest first, into groups of about equal length."""
    groups: list[list[tuple[int, int]]] = []
    for start, length in rows:
        longest = groups[-1][0][1] if groups else 0
        if groups and (longest <= _SHORT_TOKENS or length >= _LEAST_FILLED * longest):
            groups[-1].append((start, length))
        else:
            groups.append([(start, length)])
    return groups


def _group(rows: Sequence[tuple[int, int]], *, device: torch.device) -> RowGroup:
    starts = torch.tensor([start for start, _ in rows], device=device)[:, None]
    lengths = torch.tensor([length for _, length in rows], device=device)[:, None]
    steps = torch.arange(rows[0][1], device=device)[None]
    missing = steps >= lengths
    gaps = bool(missing.any())
    return RowGroup(
        tokens=slice(rows[0][0], rows[-1][0] + rows[-1][1]),
        cells=starts + torch.minimum(steps, lengths - 1),
        real=(~missing).flatten().nonzero()[:, 0] if gaps else None,
        missing=missing if gaps else None,
    )
