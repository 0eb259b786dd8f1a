"""A loop over the in-process bus and what came of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from baldistill.artifacts.ports import ArtifactRef
from baldistill.bus.in_process import InProcessBus
from baldistill.bus.ports import Message
from baldistill.events.facts import ExamplesSelected, Fact, RunState, RunStateChanged, StagePlanned
from baldistill.events.publishing import FactPublisher
from baldistill.runtime.consumer import ConsumerLoop
from baldistill.runtime.handlers import ConsumerGroup, HandlerTable
from baldistill.runtime.outcomes import OutcomeCounts
from baldistill.runtime.retries import OutagePolicy, RetryPolicy
from baldistill.runtime.run_states import RunStateView

REF = ArtifactRef(key="k", sha256="s", size_bytes=1)
AT_ONCE = RetryPolicy(first_delay_s=0)
NO_PAUSE = OutagePolicy(first_delay_s=0)


def planned(*, epoch: int = 1, stage: int = 1, run_id: str = "r1") -> StagePlanned:
    return StagePlanned(
        tenant="acme", run_id=run_id, epoch=epoch, stage=stage, spec=REF, plan=REF, previous_student=None
    )


def selected(*, stage: int = 1) -> ExamplesSelected:
    return ExamplesSelected(tenant="acme", run_id="r1", epoch=1, stage=stage, spec=REF, plan=REF, selection=REF)


def state(*, epoch: int = 1, state: RunState = RunState.RUNNING) -> RunStateChanged:
    return RunStateChanged(tenant="acme", run_id="r1", epoch=epoch, stage=1, state=state)


class Scene:
    """A bus, one gated group, and what came of it."""

    def __init__(self, bus: InProcessBus | None = None) -> None:
        self.bus = bus or InProcessBus()
        self.counts = OutcomeCounts()
        self.publish = FactPublisher(self.bus, source="policy")
        self.given_up: list[Exception] = []

    def loop(
        self,
        handlers: HandlerTable,
        *,
        retries: RetryPolicy = AT_ONCE,
        outages: OutagePolicy = NO_PAUSE,
        monotonic: Callable[[], float] = lambda: 0.0,
    ) -> ConsumerLoop:
        return ConsumerLoop(
            bus=self.bus,
            group=ConsumerGroup(name="selector", handlers=handlers),
            run_states=RunStateView(self.bus),
            retries=retries,
            outages=outages,
            view_lag_delay_s=0,
            counter=self.counts,
            on_give_up=self.given_up.append,
            monotonic=monotonic,
        )

    def published(self, topic: str) -> list[Message]:
        """All messages of a topic, by a group that nobody else is in."""
        reader = self.bus.consumer(group=f"reader-{next(_READERS)}", topics=[topic])
        found = []
        while (delivery := reader.poll(timeout_s=0)) is not None:
            found.append(delivery.message)
            reader.commit(delivery)
        return found


_READERS = itertools.count()


def steps(loop: ConsumerLoop) -> int:
    """Step until nothing comes; return how many deliveries came."""
    for count in range(1_000):
        if not loop.step(timeout_s=0):
            return count
    raise AssertionError("the loop does not come to rest")


def failing(error: Exception, *, times: int = 1_000_000) -> tuple[Callable[[Fact], Sequence[Fact]], list[Fact]]:
    """A handler that raises `times` times and then answers with ExamplesSelected, and the facts that it saw."""
    seen: list[Fact] = []

    def handler(fact: Fact) -> Sequence[Fact]:
        seen.append(fact)
        if len(seen) <= times:
            raise error
        return [selected(stage=fact.stage)]

    return handler, seen
