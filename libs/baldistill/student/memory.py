"""What is done where a batch does not fit into memory: it is halved, and that is said."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

_LOG = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

# How torch's CPU allocator says it, in a RuntimeError without a class of its own.
_CPU_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory")


def halving_when_short(
    items: Sequence[T], work: Callable[[Sequence[T]], R], *, on_halved: Callable[[int], None]
) -> Iterator[tuple[Sequence[T], R]]:
    """Yield parts of `items` with what `work` makes of each: the whole, or halves of what did not fit into memory.

    on_halved: told how many items did not fit.   Raises what `work` raises where a single item does not fit.
    """
    try:
        result = work(items)
    except (RuntimeError, MemoryError) as error:
        if len(items) < 2 or not is_out_of_memory(error):
            raise
    else:
        yield items, result
        return
    # Outside of the handler, which would keep the failed attempt's tensors alive.
    _LOG.warning("a batch did not fit into memory and is done in halves", extra={"rows": len(items)})
    on_halved(len(items))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    for half in (items[:middle], items[middle:]):
        yield from halving_when_short(half, work, on_halved=on_halved)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a failure means that memory was short."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CPU_OUT_OF_MEMORY)


def ignore_halving(_rows: int) -> None:
    """Tell nobody."""
