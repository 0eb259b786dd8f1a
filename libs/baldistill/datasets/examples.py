"""One example of a data set and what is known about a data set version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from baldistill.artifacts.ports import ArtifactRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A question with its true answer. `domain` is what budgets and reports are split by."""

    example_id: str
    domain: str
    input: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainCounts:
    """Sizes of one domain. longest_input_bytes, longest_answer_bytes: UTF-8, over pool and test (bounds need them)."""

    pool: int
    test: int
    longest_input_bytes: int
    longest_answer_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One immutable version of a data set.

    pool, test: Parquet with columns id, domain, input, answer (strings), in a stable order.
    labels: distinct answers in sorted order where there are at most 1,000, else empty (free text).
    sha256: of the manifest; it stands in spec.json.
    removed: rows that were dropped, by reason: duplicate and in_test from the pool, test_duplicate from a test file.
    given: rows of each domain, of pool and test together, before any was removed.
    oracle: real items that are in neither pool nor test, as Parquet like these; a stand-in for a teacher's inventions.
    rationales, aliases: by example id: a person's chain of thought; every accepted answer. None where it came with none.
    """

    tenant: str
    name: str
    version: str
    sha256: str
    pool: ArtifactRef
    test: ArtifactRef
    domains: Mapping[str, DomainCounts]
    labels: tuple[str, ...]
    removed: Mapping[str, int]
    given: Mapping[str, int] = field(default_factory=dict)
    oracle: ArtifactRef | None = None
    rationales: ArtifactRef | None = None
    aliases: ArtifactRef | None = None
