"""What an evaluation says, as plain values that metrics files and reports carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

# A mean over fewer items is noise: at 30 the standard error of an accuracy of 0.5 is 0.09 (DESIGN 2.7).
LEAST_ITEMS_FOR_A_MEAN = 30


class Metric(Enum):
    """What a domain's score is. F1: one-vs-rest over the whole test set. ACCURACY: within the domain."""

    F1 = "f1"
    ACCURACY = "accuracy"


class Group(Enum):
    """Report groups, fixed per run: TAIL where n_d < B / l."""

    HEAD = "head"
    TAIL = "tail"


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainScore:
    """One domain. pool: n_d.   items: of the test set.   correct: of these.   score: None without a test item.

    at_chance: no better than its majority answer by more than 2 standard errors; None without a test item.
    answer_nll: mean negative log-likelihood of the true answers in nats per token, None where it was not measured.
    """

    pool: int
    items: int
    correct: int
    score: float | None
    at_chance: bool | None
    answer_nll: float | None
    group: Group


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupScore:
    """Head or tail. macro: mean over its domains with a test item. micro: share of its items that are right.

    Both None below 30 items. domains: of the group, with or without test items.
    """

    domains: int
    items: int
    macro: float | None
    micro: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationReport:
    """Scores of one set of answers. macro: mean over domains with a test item; micro: accuracy over items.

    Both None below 30 items.   unparsable: answers outside the label set; they count as wrong.
    macro_answer_nll: mean over domains of the domains' answer_nll, in nats per token.
    """

    metric: Metric
    items: int
    unparsable: int
    macro: float | None
    micro: float | None
    macro_answer_nll: float | None
    domains: Mapping[str, DomainScore]
    groups: Mapping[Group, GroupScore]

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values, domains in name order."""
        return {
            "metric": self.metric.value,
            "items": self.items,
            "unparsable": self.unparsable,
            "macro": self.macro,
            "micro": self.micro,
            "macro_answer_nll": self.macro_answer_nll,
            "domains": {
                name: {**asdict(score), "group": score.group.value} for name, score in sorted(self.domains.items())
            },
            "groups": {group.value: asdict(self.groups[group]) for group in Group},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClassificationReport:
        """Read what `to_json` wrote."""
        domains = {
            name: DomainScore(**{**values, "group": Group(values["group"])}) for name, values in data["domains"].items()
        }
        groups = {Group(name): GroupScore(**values) for name, values in data["groups"].items()}
        return cls(**{**data, "metric": Metric(data["metric"]), "domains": domains, "groups": groups})
