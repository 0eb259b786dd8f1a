"""A process's metrics over prometheus_client, in a registry of its own: there is no global one.

The only importer of prometheus_client. What is not declared cannot be emitted, and labels stay within their bounds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeAlias

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from baldistill.telemetry.declarations import OTHER, Kind, Label, Metric, NotDeclared, Sample
from baldistill.telemetry.metrics import METRICS, PROCESS_INFO

# All sources of a page together; Prometheus waits for 5 s in the local stack and 10 s by default.
_SOURCES_S = 3.0

Measure: TypeAlias = Callable[[], Iterable[Sample]]

_log = structlog.get_logger(__name__)


class ProcessMetrics:
    """Counts, observes and measures. Thread-safe. Labels are given by name, all that are declared."""

    def __init__(self, *, service: str, version: str) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._bounds = _LabelBounds()
        self._counters: dict[Metric, Counter] = {}
        self._histograms: dict[Metric, Histogram] = {}
        self._measured: list[_Measured] = []
        self._lock = threading.Lock()
        self.measure([PROCESS_INFO], lambda: [Sample(metric=PROCESS_INFO, value=1, labels=(service, version))])

    def count(self, metric: Metric, *, by: float = 1, **labels: str) -> None:
        """Add to a counter."""
        _require(metric, Kind.COUNTER, labels)
        with self._lock:
            if metric not in self._counters:
                name = metric.name.removesuffix("_total")
                self._counters[metric] = Counter(name, metric.help, metric.label_names, registry=self._registry)
        counter = self._counters[metric]
        (counter.labels(**self._bounds.within(metric, labels)) if metric.labels else counter).inc(by)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Add an observation to a histogram, in the metric's unit."""
        _require(metric, Kind.HISTOGRAM, labels)
        with self._lock:
            if metric not in self._histograms:
                self._histograms[metric] = Histogram(
                    metric.name, metric.help, metric.label_names, buckets=metric.buckets, registry=self._registry
                )
        histogram = self._histograms[metric]
        (histogram.labels(**self._bounds.within(metric, labels)) if metric.labels else histogram).observe(value)

    def measure(self, metrics: Sequence[Metric], source: Measure) -> None:
        """Have gauges read from `source` at each scrape, in a thread of its own. Where it raises, or takes longer than a
        scrape may, they are absent then, never stale; what else is on the page is there.

        source: gives the most important samples first, as those beyond a label's bound are left out.
        """
        for metric in metrics:
            _require(metric, Kind.GAUGE, dict.fromkeys(metric.label_names, ""))
        measured = _Measured(tuple(metrics), source)
        self._registry.register(measured)
        self._measured.append(measured)

    def page(self, *, accept: str = "") -> tuple[bytes, str]:
        """Return the page that Prometheus scrapes, and its content type for the request's Accept header."""
        ends_at_s = time.monotonic() + _SOURCES_S
        for measured in self._measured:
            measured.begin(ends_at_s=ends_at_s)
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _LabelBounds:
    """Remembers which values each label has had, and calls what comes beyond its bound `other`."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Metric, str], set[str]] = {}
        self._lock = threading.Lock()

    def within(self, metric: Metric, labels: dict[str, str]) -> dict[str, str]:
        with self._lock:
            return {label.name: self._value(metric, label, labels[label.name]) for label in metric.labels}

    def _value(self, metric: Metric, label: Label, value: str) -> str:
        seen = self._seen.setdefault((metric, label.name), set())
        if value not in seen:
            if len(seen) >= label.most:
                return OTHER
            seen.add(value)
        return value


class _Measured(Collector):
    """Gauges that are read when they are asked for."""

    def __init__(self, metrics: tuple[Metric, ...], source: Measure) -> None:
        self._metrics = metrics
        self._source = source
        self._reading: Future[list[Sample]] | None = None
        self._ends_at_s = 0.0
        self._lock = threading.Lock()

    def begin(self, *, ends_at_s: float) -> None:
        """Start to read, where the reading before has ended. ends_at_s: on the monotonic clock, how long to wait."""
        with self._lock:
            self._ends_at_s = ends_at_s
            if self._reading is None or self._reading.done():
                self._reading = Future()
                name = f"measure-{self._metrics[0].name}"
                # A source that hangs for ever keeps neither the page nor the process.
                threading.Thread(target=self._read, args=(self._reading,), name=name, daemon=True).start()

    def _read(self, reading: Future[list[Sample]]) -> None:
        try:
            reading.set_result(list(self._source()))
        except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
            reading.set_exception(error)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name the families without reading them: two sources of one metric are refused at once."""
        for metric in self._metrics:
            yield GaugeMetricFamily(metric.name, metric.help, labels=metric.label_names)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families = {family.name: family for family in self.describe()}
        bounds = _LabelBounds()
        assert self._reading is not None
        try:
            samples = self._reading.result(max(0.0, self._ends_at_s - time.monotonic()))
        # Whatever a source lacks, the other metrics are still scraped.
        except Exception as error:  # noqa: BLE001
            reason = str(error) or type(error).__name__
            _log.warning("gauges are absent", first=self._metrics[0].name, reason=reason)
            return
        for sample in samples:
            named = dict(zip(sample.metric.label_names, sample.labels, strict=True))
            if bounds.within(sample.metric, named) == named:
                families[sample.metric.name].add_metric(sample.labels, sample.value)
        yield from families.values()


_DECLARED = frozenset(METRICS)


def _require(metric: Metric, kind: Kind, labels: dict[str, str]) -> None:
    if metric not in _DECLARED:
        raise NotDeclared(metric, reason="is not declared")
    if metric.kind is not kind:
        raise NotDeclared(metric, reason=f"is a {metric.kind.value}, not a {kind.value}")
    if set(labels) != set(metric.label_names):
        raise NotDeclared(metric, reason=f"has the labels {metric.label_names}, not {tuple(labels)}")
