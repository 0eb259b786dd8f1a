"""What an evaluation says, as plain values that metrics files and reports carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

# A mean over fewer items is noise: at 30 the standard error of an accuracy of 0.5 is 0.09 (DESIGN 2.7).
LEAST_ITEMS_FOR_A_MEAN = 30

# 1 had neither this number nor timed_out and ceiling; `from_json` reads both.
SCHEMA_VERSION = 2


class Metric(Enum):
    """What a domain's score is (docs/reference/tasks.md).

    F1: of the domain's label, one-vs-rest over the whole test set.   PAIR: the same over (input, answer) pairs, where an
    input has several answers.   SET: of the domain's label over documents with sets of labels.
    ACCURACY, WORD_F1: mean within the domain.
    """

    F1 = "f1"
    PAIR = "pair"
    SET = "set"
    ACCURACY = "accuracy"
    WORD_F1 = "word_f1"


class Group(Enum):
    """Report groups, fixed per run: TAIL where n_d < B / l."""

    HEAD = "head"
    TAIL = "tail"


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainScore:
    """One domain. pool: n_d.   items: of the test set.   correct: of these.   score: None without a test item.

    at_chance: no better than its majority answer by more than 2 standard errors; None without a test item.
    answer_nll: mean negative log-likelihood of the true answers in nats per token, None where it was not measured.
    For SET the items of a label are the documents that carry it.
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
    """Head or tail. macro: mean over its domains with a test item. micro: over its items, as for the whole.

    Both None below 30 items. domains: of the group, with or without test items.
    """

    domains: int
    items: int
    macro: float | None
    micro: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What one prediction an input can reach at best, where inputs have several answers.

    micro: exactly.   macro_reached: what a search found, so it can be reached.   macro_at_most: each label at its own best,
    which the others may not allow; the best macro lies between the two.
    """

    micro: float
    macro_reached: float
    macro_at_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """Scores of one set of answers. macro: mean over domains with a test item; micro: over items (SET: F1 of all labels).

    Both None below 30 items.   unparsable: answers that name no label, or none at all; they count as wrong.
    macro_answer_nll: mean over domains of the domains' answer_nll, in nats per token; None below 30 items.
    timed_out: answers whose comparison was given up; they count as wrong.   ceiling: for PAIR only.
    """

    metric: Metric
    items: int
    unparsable: int
    macro: float | None
    micro: float | None
    macro_answer_nll: float | None
    domains: Mapping[str, DomainScore]
    groups: Mapping[Group, GroupScore]
    timed_out: int = 0
    ceiling: Ceiling | None = None

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values, domains in name order."""
        return {
            "schema_version": SCHEMA_VERSION,
            "metric": self.metric.value,
            "items": self.items,
            "unparsable": self.unparsable,
            "timed_out": self.timed_out,
            "macro": self.macro,
            "micro": self.micro,
            "macro_answer_nll": self.macro_answer_nll,
            "ceiling": asdict(self.ceiling) if self.ceiling else None,
            "domains": {
                name: {**asdict(score), "group": score.group.value} for name, score in sorted(self.domains.items())
            },
            "groups": {group.value: asdict(self.groups[group]) for group in Group},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EvaluationReport:
        """Read what `to_json` wrote, today or in version 1."""
        known = {key: value for key, value in data.items() if key != "schema_version"}
        ceiling = known.pop("ceiling", None)
        domains = {
            name: DomainScore(**{**values, "group": Group(values["group"])})
            for name, values in known.pop("domains").items()
        }
        groups = {Group(name): GroupScore(**values) for name, values in known.pop("groups").items()}
        return cls(
            **{**known, "metric": Metric(known["metric"])},
            domains=domains,
            groups=groups,
            ceiling=Ceiling(**ceiling) if ceiling else None,
        )
