"""Which synthesised examples say what is there already: near-duplicates by MinHash, confirmed by their shingles. Pure."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Iterable, Sequence

from datasketch import MinHash, MinHashLSH

# 128 permutations: the library's default. The index is only asked for candidates, so misses are weighed nine times as
# heavily as false alarms, which the exact comparison finds.
_PERMUTATIONS = 128
_FALSE_ALARMS, _MISSES = 0.1, 0.9
# One more thing that bytes depend on: another seed may find another candidate.
_SEED = 1


class NearDuplicates:
    """Finds which of some texts are near-duplicates of others. threshold: Jaccard similarity from which on they are.

    shingle: characters of a shingle. Texts are compared in lower case, NFKC, with single spaces. In memory are the texts
    that are judged; what they are compared with is streamed.
    """

    def __init__(self, texts: Sequence[str], *, threshold: float, shingle: int) -> None:
        self._threshold = threshold
        self._shingle = shingle
        self._empty = MinHash(num_perm=_PERMUTATIONS, seed=_SEED, hashfunc=zlib.crc32)
        self._shingles = [shingles_of(text, size=shingle) for text in texts]
        self._sketches = [self._sketch(shingles) for shingles in self._shingles]
        self._index = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS, weights=(_FALSE_ALARMS, _MISSES))
        for place, sketch in enumerate(self._sketches):
            self._index.insert(place, sketch)

    def of(self, others: Iterable[str]) -> set[int]:
        """Return the places of the texts that are near-duplicates of one of the others."""
        found: set[int] = set()
        for text in others:
            shingles = shingles_of(text, size=self._shingle)
            found.update(self._similar(shingles, self._sketch(shingles)))
        return found

    def of_each_other(self, places: Iterable[int]) -> set[int]:
        """Return which of these places, in their order, are near-duplicates of one that came before and was kept."""
        kept: set[int] = set()
        for place in places:
            if not kept.intersection(self._similar(self._shingles[place], self._sketches[place])):
                kept.add(place)
        return set(places) - kept

    def _similar(self, shingles: frozenset[bytes], sketch: MinHash) -> list[int]:
        candidates: list[int] = self._index.query(sketch)
        return [place for place in candidates if jaccard(shingles, self._shingles[place]) >= self._threshold]

    def _sketch(self, shingles: frozenset[bytes]) -> MinHash:
        # A copy shares the permutations, which take longer to draw than a text to sketch.
        sketch = self._empty.copy()
        sketch.update_batch(shingles)
        return sketch


def shingles_of(text: str, *, size: int) -> frozenset[bytes]:
    """Return the runs of `size` characters of a text; a shorter text is one shingle."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return frozenset(plain[start : start + size].encode() for start in range(max(1, len(plain) - size + 1)))


def jaccard(one: frozenset[bytes], other: frozenset[bytes]) -> float:
    """Return the share of shingles that two texts have in common, of all that one of them has."""
    common = len(one & other)
    return common / (len(one) + len(other) - common)
