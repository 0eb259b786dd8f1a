"""What a declaration of a metric says (STYLE 14): name, kind, help, and how many values each label can have."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from baldistill.errors import BalDistillError

# Where values beyond a label's bound are counted.
OTHER = "other"


class Kind(enum.Enum):
    """Kinds of Prometheus metrics that we use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One label. bound: why its values are few, in words.   most: further values are counted as `other`."""

    name: str
    bound: str
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. name: `baldistill_<service>_<noun>_<unit>[_total]`.   buckets: upper bounds of a histogram's.

    most_series: what its source keeps to where its labels hang together; 0 = the product of the labels' bounds.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    most_series: int = 0

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One reading of a gauge. labels: their values, in the order of the declaration."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


class NotDeclared(BalDistillError):
    """A metric is used otherwise than it is declared."""

    def __init__(self, metric: Metric, *, reason: str) -> None:
        super().__init__(f"{metric.name} {reason}; declare it in baldistill/telemetry/metrics.py")
