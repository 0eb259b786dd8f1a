"""Progress reaches the bus about once a round and never holds up the work."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import DependencyUnavailable
from baldistill.events.facts import Fact, ProgressReported
from baldistill.runtime.launching import Job
from baldistill.runtime.progress_publisher import ProgressPublisher

SPEC = ArtifactRef(key="spec.json", sha256="0" * 64, size_bytes=2)


def work(run_id: str = "r", *, stage: int = 1) -> Job:
    return Job(tenant="acme", run_id=run_id, epoch=3, stage=stage, spec=SPEC)


@contextmanager
def publisher(publish: object, *, interval_s: float) -> Iterator[ProgressPublisher]:
    one = ProgressPublisher(publish, interval_s=interval_s)  # type: ignore[arg-type]
    one.start()
    yield one
    one.close()


def test_of_each_step_only_the_newest_figure_of_a_round_is_published() -> None:
    published: list[Fact] = []
    with publisher(published.extend, interval_s=3600) as source:
        for done in range(1, 1001):
            source(work())(step="train", done=done, total=1000, unit="steps")
        source(work("other"))(step="train", done=1, total=9, unit="steps")
        source(work())(step="evaluate", done=2, total=9, unit="items")
    seen = [(one.run_id, one.step, one.done, one.epoch) for one in published if isinstance(one, ProgressReported)]
    assert seen == [("r", "train", 1000, 3), ("other", "train", 1, 3), ("r", "evaluate", 2, 3)]


def test_what_is_reported_while_the_work_goes_on_is_published_before_its_end() -> None:
    published: list[Fact] = []
    came = threading.Event()

    def publish(facts: Sequence[Fact]) -> None:
        published.extend(facts)
        came.set()

    with publisher(publish, interval_s=0.01) as source:
        source(work())(step="train", done=1, total=2, unit="steps")
        assert came.wait(10)
    assert len(published) == 1


def test_a_broker_that_hangs_holds_up_nobody_and_its_memory_is_bounded() -> None:
    asked, let_go = threading.Event(), threading.Event()
    published: list[Fact] = []

    def publish(facts: Sequence[Fact]) -> None:
        asked.set()
        let_go.wait(30)
        published.extend(facts)

    with publisher(publish, interval_s=0.01) as source:
        source(work())(step="train", done=1, total=2, unit="steps")
        assert asked.wait(10)
        for run in range(1000):
            source(work(f"r{run}"))(step="train", done=1, total=2, unit="steps")
        let_go.set()
    assert len(published) <= 1 + 256


def test_a_broker_that_is_away_loses_progress_and_nothing_else() -> None:
    failures: list[int] = []
    published: list[Fact] = []
    came = threading.Event()

    def publish(facts: Sequence[Fact]) -> None:
        if not failures:
            failures.append(1)
            raise DependencyUnavailable(dependency="broker", reason="away")
        published.extend(facts)
        came.set()

    with publisher(publish, interval_s=0.01) as source:
        for done in range(1, 1000):
            source(work())(step="train", done=done, total=1000, unit="steps")
            if came.wait(0.02):
                break
    assert failures == [1]
    assert published


def test_a_fact_that_cannot_be_published_does_not_end_the_reports_of_others() -> None:
    published: list[Fact] = []
    refused, came = threading.Event(), threading.Event()

    def publish(facts: Sequence[Fact]) -> None:
        if not refused.is_set():
            refused.set()
            raise ValueError("no such field")
        published.extend(facts)
        came.set()

    with publisher(publish, interval_s=0.01) as source:
        source(work())(step="train", done=1, total=2, unit="steps")
        assert refused.wait(5)
        source(work())(step="train", done=2, total=2, unit="steps")
        assert came.wait(5)
    assert [one.done for one in published if isinstance(one, ProgressReported)] == [2]
