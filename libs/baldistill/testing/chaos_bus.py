"""A bus that does its worst within the promise: duplicates, delays, reorders, shows run states late (DESIGN 3).

Driven by a stream of choices, so that a failure is repeated by its seed. For single-threaded tests:

    chaos = ChaosBus(InProcessBus(), choose=seeded(7))
    run_until_idle([loop, ...], choose=seeded(8))
    assert all(count <= 1 + chaos.injected_duplicates for count in chaos.publications.values())
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np

from baldistill.bus.ports import Bus, BusConsumer, BusReader, Delivery, Message
from baldistill.events.codec import EVENT_ID_HEADER
from baldistill.events.dead_letters import is_dead_letter_topic

# Returns a number from 0 to one below its argument.
Choose: TypeAlias = Callable[[int], int]

# A view may lag, not for ever: else nothing that waits for it would ever end.
_LONGEST_LAG_READS = 3


def seeded(seed: int) -> Choose:
    """Return choices that are a function of the seed. With hypothesis draw the seed, not every choice."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return lambda limit: int(rng.integers(limit))


class Steps(Protocol):
    """What `run_until_idle` drives: a ConsumerLoop, or anything else that takes one step at a time."""

    def step(self, *, timeout_s: float) -> bool:
        """Do one piece of work; False where there is none."""


def run_until_idle(loops: Sequence[Steps], *, choose: Choose, most_steps: int = 100_000) -> int:
    """Step loops in a chosen order until none has work; return the number of steps that had some.

    A loop that waits out an outage has no work: give it `OutagePolicy(first_delay_s=0)` where a test makes outages.

    Raises: RuntimeError where they have not come to rest after `most_steps` steps.
    """
    steps = 0
    idle: set[int] = set()
    while len(idle) < len(loops):
        awake = [number for number in range(len(loops)) if number not in idle]
        number = awake[choose(len(awake))]
        if not loops[number].step(timeout_s=0):
            idle.add(number)
            continue
        idle.clear()
        steps += 1
        if steps > most_steps:
            raise RuntimeError(f"not at rest after {most_steps} steps: an event storm, or work that waits for ever")
    return steps


@dataclass(slots=True)
class _Group:
    """Duplicates that are still to come to a group. They outlive its members."""

    late: list[Delivery] = field(default_factory=list)


class ChaosBus:
    """The Bus port over another bus.

    duplicate_one_in: one of how many commits is lost or comes again later; 0 = none.   most_duplicates: over all groups.
    publications: by event id, dead letters apart.   duplicates: injected ones, by event id of what came twice.
    """

    def __init__(self, bus: Bus, *, choose: Choose, duplicate_one_in: int = 4, most_duplicates: int = 100) -> None:
        self._bus = bus
        self._choose = choose
        self._duplicate_one_in = duplicate_one_in
        self._most_duplicates = most_duplicates
        self._groups: defaultdict[str, _Group] = defaultdict(_Group)
        self._seen: dict[str, Sequence[Message]] = {}
        self._late_reads = 0
        self.publications: Counter[str] = Counter()
        self.duplicates: Counter[str] = Counter()

    @property
    def injected_duplicates(self) -> int:
        """How many deliveries came more often than they had to."""
        return self.duplicates.total()

    def publish(self, messages: Sequence[Message]) -> None:
        self._bus.publish(messages)
        for message in messages:
            if not is_dead_letter_topic(message.topic):
                self.publications[message.headers[EVENT_ID_HEADER]] += 1

    def consumer(self, *, group: str, topics: Sequence[str]) -> ChaosConsumer:
        return ChaosConsumer(self, self._bus.consumer(group=group, topics=topics), self._groups[group], set(topics))

    def read_compacted(self, topic: str) -> Sequence[Message]:
        if topic in self._seen and self._late_reads < _LONGEST_LAG_READS and self._choose(2) == 0:
            self._late_reads += 1
            return self._seen[topic]
        self._late_reads = 0
        self._seen[topic] = self._bus.read_compacted(topic)
        return self._seen[topic]

    def newest(self, topic: str, *, key: str) -> Message | None:
        return next((one for one in self.read_compacted(topic) if one.key == key), None)

    def tail(self, topics: Sequence[str]) -> BusReader:
        return self._bus.tail(topics)

    def lag(self, group: str) -> int:
        return self._bus.lag(group)

    def close(self) -> None:
        self._bus.close()

    def choose(self, limit: int) -> int:
        """Return the next choice."""
        return self._choose(limit)

    def wants_duplicate(self) -> bool:
        """Decide whether what is being committed comes again."""
        return (
            self._duplicate_one_in > 0
            and self.injected_duplicates < self._most_duplicates
            and self._choose(self._duplicate_one_in) == 0
        )

    def note_duplicate(self, delivery: Delivery) -> None:
        """Count a delivery that comes again although it was handled."""
        self.duplicates[delivery.message.headers.get(EVENT_ID_HEADER, "")] += 1


class ChaosConsumer:
    """Holds all that its bus gives and hands it out in a chosen order; delays of retries are such choices too."""

    def __init__(self, chaos: ChaosBus, consumer: BusConsumer, group: _Group, topics: set[str]) -> None:
        self._chaos = chaos
        self._consumer = consumer
        self._group = group
        self._topics = topics
        self._held: list[Delivery] = []
        self._out: Delivery | None = None
        self._out_is_late = False

    def poll(self, *, timeout_s: float) -> Delivery | None:
        self._collect()
        late = [one for one in self._group.late if one.message.topic in self._topics]
        waiting = [*self._held, *late]
        if not waiting:
            delivery = self._consumer.poll(timeout_s=timeout_s)
            if delivery is None:
                return None
            self._held = waiting = [delivery]
        chosen = self._chaos.choose(len(waiting))
        delivery = waiting[chosen]
        self._out_is_late = chosen >= len(self._held)
        _remove(self._group.late if self._out_is_late else self._held, delivery)
        self._out = delivery
        return delivery

    def commit(self, delivery: Delivery) -> None:
        if not self._takes_back(delivery) or self._out_is_late:
            return
        if not self._chaos.wants_duplicate():
            self._consumer.commit(delivery)
            return
        self._chaos.note_duplicate(delivery)
        if self._chaos.choose(2) == 0:
            # The commit was lost: it comes again before what follows it in its partition.
            self._held.append(delivery)
        else:
            # A rebalance went back: it comes again at any time, also after what follows it.
            self._consumer.commit(delivery)
            self._group.late.append(dataclasses.replace(delivery))

    def retry(self, delivery: Delivery, *, delay_s: float, count_attempt: bool = True) -> None:  # noqa: ARG002
        if not self._takes_back(delivery):
            return
        again = dataclasses.replace(delivery, attempt=delivery.attempt + int(count_attempt))
        (self._group.late if self._out_is_late else self._held).append(again)

    def close(self) -> None:
        if self._out is not None:
            # Its handler may have published already: for what follows, this is a duplicate.
            self._chaos.note_duplicate(self._out)
            if self._out_is_late:
                self._group.late.append(self._out)
        self._out = None
        self._held.clear()
        self._consumer.close()

    def _collect(self) -> None:
        while (delivery := self._consumer.poll(timeout_s=0)) is not None:
            self._held.append(delivery)

    def _takes_back(self, delivery: Delivery) -> bool:
        if self._out is not delivery:
            return False
        self._out = None
        return True


def _remove(deliveries: list[Delivery], delivery: Delivery) -> None:
    """Remove this very object: a late duplicate can be equal to another."""
    del deliveries[next(number for number, one in enumerate(deliveries) if one is delivery)]
