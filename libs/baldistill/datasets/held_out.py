"""The held-out split of a data set that came without a test file."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from baldistill.datasets.deduplication import digest
from baldistill.datasets.examples import Example
from baldistill.errors import InvalidInput
from baldistill.seeding import stable_hash

# At most a fifth: a domain with fewer than five items keeps all of them in the pool.
LARGEST_SHARE = Fraction(1, 5)


def checked_share(share: Fraction) -> Fraction:
    """Return a held-out share. Raises InvalidInput outside (0, 1/5]."""
    if not 0 < share <= LARGEST_SHARE:
        raise InvalidInput(f"{float(share):g} is not above 0 and at most 0.2", field="held_out_share")
    return share


class HeldOutChoice:
    """Remembers 20 bytes a row, then says which rows are held out: floor(n_d x share) per domain, by hash(seed, id).

    A row whose input other rows share stays in the pool, so that holding it out removes none of them.
    """

    def __init__(self, *, seed: int, share: Fraction) -> None:
        self._seed = seed
        self._share = checked_share(share)
        self._domains: dict[str, int] = {}
        self._rows = bytearray()

    def add(self, example: Example) -> None:
        """Take note of the next row."""
        domain = self._domains.setdefault(example.domain, len(self._domains))
        self._rows += domain.to_bytes(4, "little")
        self._rows += stable_hash(self._seed, "held-out", example.example_id).to_bytes(8, "little")
        self._rows += digest(example.input)[:8]

    def mask(self) -> npt.NDArray[np.bool_]:
        """Return one boolean a row, in the order of `add`: True is held out."""
        rows = np.frombuffer(self._rows, dtype=[("domain", "<u4"), ("order", "<u8"), ("input", "<u8")])
        _, inverse, counts = np.unique(rows["input"], return_inverse=True, return_counts=True)
        is_alone = counts[inverse] == 1
        sizes = np.bincount(rows["domain"], minlength=len(self._domains))
        quotas = [int(int(size) * self._share) for size in sizes]
        held_out = np.zeros(len(rows), dtype=np.bool_)
        # By domain, then by hash; equal hashes keep the order of the file.
        ranked = np.lexsort((rows["order"], rows["domain"]))
        ranked = ranked[is_alone[ranked]]
        edges = np.searchsorted(rows["domain"][ranked], np.arange(len(quotas) + 1))
        for (start, end), quota in zip(pairwise(edges), quotas, strict=True):
            held_out[ranked[start : min(end, start + quota)]] = True
        return held_out
