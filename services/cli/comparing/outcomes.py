"""What came of one cell, as small plain values: scores, calls, minutes, and each item's right and wrong as numbers.

No text of the data is in it: labels are numbers in the order of `labels`, items are in the order of the test file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# What the means of the table are made of. `shared_labels`: F1 of each label; `credit`: mean within the domain.
SHARED_LABELS, CREDIT = "shared_labels", "credit"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutcomes:
    """One entry an item. kind: SHARED_LABELS uses truth and predicted, CREDIT uses credit.

    domains, labels: names; domain, truth, predicted: numbers into them.   unknown: predicted parts that are no label; an
    answer without any counts as one.   pairs: micro is F1 over labels instead of the share of items that are right.
    digest: tells item sets apart.   tail: names of rows in the tail group.
    """

    kind: str
    domains: tuple[str, ...]
    labels: tuple[str, ...]
    domain: tuple[int, ...]
    truth: tuple[tuple[int, ...], ...]
    predicted: tuple[tuple[int, ...], ...]
    unknown: tuple[int, ...]
    credit: tuple[float, ...]
    answer_nll: tuple[float, ...]
    pairs: bool
    digest: str
    tail: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOutcome:
    """A finished cell. scores: macro, micro, tail, answer_nll as the stored report has them; None where it has none.

    domains: by name {pool, items, score, answer_nll}.   calls: spent.   minutes: of all steps, wall-clock.
    """

    name: str
    method: str
    target: str
    seed: int
    noise: float
    teacher: str
    state: str
    metric: str
    test_items: int
    scores: Mapping[str, float | None]
    domains: Mapping[str, Mapping[str, Any]]
    calls: int
    trained_rows: int
    minutes: float
    items: ItemOutcomes
    diagnostics: Mapping[str, Any]
    row: str

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CellOutcome:
        """Read what `to_json` wrote."""
        items: Mapping[str, Any] = data["items"]
        frozen: dict[str, Any] = {
            name: tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
            for name, value in items.items()
        }
        for name in ("truth", "predicted"):
            frozen[name] = tuple(tuple(one) for one in items[name])
        return cls(**{**data, "items": ItemOutcomes(**frozen)})
