"""All randomness comes from here: a function of the spec's seed and of what is being decided (DESIGN 5).

`hash()` is salted per process and `random.Random(str)` depends on its version; sha256 does not.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np

SeedPart: TypeAlias = str | int


def stable_hash(*parts: SeedPart) -> int:
    """Return a 64-bit hash of the parts, equal in every process, version and machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def generator(*parts: SeedPart) -> np.random.Generator:
    """Return a numpy generator seeded by the parts."""
    return np.random.Generator(np.random.PCG64(stable_hash(*parts)))
