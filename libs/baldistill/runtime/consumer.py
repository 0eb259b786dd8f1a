"""The loop that turns a consumer group into work: poll, decode, gate, handle, publish, commit (DESIGN 3).

Handlers store their artifacts before they return; outputs are published before the offset is committed. So a death at
any moment repeats work that is idempotent and loses none.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from baldistill.bus.ports import Bus, BusConsumer, Delivery, Message
from baldistill.errors import DependencyUnavailable, PermanentError, RunOnHold, StorageFull, UndecodableMessage
from baldistill.events.codec import EVENT_ID_HEADER, decode
from baldistill.events.dead_letters import (
    DeadLetter,
    dead_letter_topic,
    is_dead_letter_topic,
    read_dead_letter,
    to_dead_letter,
)
from baldistill.events.facts import Fact
from baldistill.events.publishing import FactPublisher
from baldistill.runtime.handlers import ConsumerGroup
from baldistill.runtime.outcomes import Outcome, OutcomeCounter, OutcomeCounts
from baldistill.runtime.retries import OutagePolicy, RetryPolicy
from baldistill.runtime.run_states import Gate, RunStateView
from baldistill.runtime.watching import DeliveryWatch, Logged

Outage: TypeAlias = DependencyUnavailable | StorageFull

# Only how soon a stop is noticed; a poll returns at once where there is something.
_POLL_S = 0.5
# A run is paused within moments of its budget; a person may hold it for days.
_ON_HOLD_DELAY_S = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterWatch:
    """Has a group also read the dead letters of `topics`. Only policy does, to block their runs."""

    topics: Sequence[str]
    handler: Callable[[DeadLetter], Sequence[Fact]]


class ConsumerLoop:
    """One member of a consumer group. Used by one thread at a time; more members make more work in parallel.

    run_states: None only for policy, which writes them.   view_lag_delay_s: wait for a run state that is not there yet.
    view_lag_limit_s: after that long, work of a run that was never announced goes to the dead letters: its partition
    holds other runs' work as well.
    on_give_up: told what ended `run`: an outage longer than `outages.give_up_after`, or a failure of the loop itself.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        group: ConsumerGroup,
        run_states: RunStateView | None,
        dead_letters: DeadLetterWatch | None = None,
        retries: RetryPolicy | None = None,
        outages: OutagePolicy | None = None,
        view_lag_delay_s: float = 0.2,
        view_lag_limit_s: float = 10.0,
        counter: OutcomeCounter | None = None,
        watch: DeliveryWatch | None = None,
        on_give_up: Callable[[Exception], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._group = group
        self._run_states = run_states
        self._dead_letters = dead_letters
        self._retries = retries or RetryPolicy()
        self._outages = outages or OutagePolicy()
        self._view_lag_delay_s = view_lag_delay_s
        self._view_lag_limit_s = view_lag_limit_s
        self._lagging_since_s: dict[tuple[str, int], tuple[int, float]] = {}
        self._counter = counter or OutcomeCounts()
        self._watch = watch or Logged()
        self._on_give_up = on_give_up
        self._monotonic = monotonic
        self._publish = FactPublisher(bus, source=group.name)
        self._joined: BusConsumer | None = None
        self._away_since_s: float | None = None
        self._failures = 0
        self._paused_until_s = 0.0

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; the delivery at hand is finished first. Leaves the group at its end."""
        try:
            while not stop.is_set():
                self.step(timeout_s=_POLL_S)
        except Exception as error:
            if self._on_give_up is None:
                raise
            self._on_give_up(error)
        finally:
            self.close()

    def step(self, *, timeout_s: float) -> bool:
        """Take one delivery and settle it; False where none came within `timeout_s` seconds.

        Raises: DependencyUnavailable or StorageFull where an outage is longer than the policy waits.
        """
        if self._is_paused(timeout_s):
            return False
        delivery = None
        try:
            consumer = self._consumer()
            delivery = consumer.poll(timeout_s=timeout_s)
            if delivery is not None:
                self._settle(consumer, delivery)
        except (DependencyUnavailable, StorageFull) as outage:
            self._pause(outage, delivery)
        else:
            if delivery is not None:
                self._away_since_s, self._failures = None, 0
        return delivery is not None

    def close(self) -> None:
        """Leave the group; what is out comes to another member. Idempotent."""
        if self._joined is not None:
            self._joined.close()
            self._joined = None

    def _consumer(self) -> BusConsumer:
        if self._joined is None:
            topics = [fact.TOPIC for fact in self._group.handlers]
            if self._dead_letters is not None:
                topics += [dead_letter_topic(topic) for topic in self._dead_letters.topics]
            self._joined = self._bus.consumer(group=self._group.name, topics=topics)
        return self._joined

    def _settle(self, consumer: BusConsumer, delivery: Delivery) -> None:
        """Do what a delivery asks for, then commit it, have it come again, or bury it."""
        try:
            outcome = self._handle(delivery)
        except (DependencyUnavailable, StorageFull):
            raise
        except PermanentError as error:
            self._bury(consumer, delivery, error)
        except RunOnHold as error:
            self._hold(consumer, delivery, error)
        # Whatever a handler raises is its own failure; the loop and the other runs live on.
        except Exception as error:  # noqa: BLE001
            self._retry_or_bury(consumer, delivery, error)
        else:
            self._count(outcome, delivery)
            if outcome is Outcome.LAGGING:
                consumer.retry(delivery, delay_s=self._view_lag_delay_s, count_attempt=False)
            else:
                consumer.commit(delivery)

    def _retry_or_bury(self, consumer: BusConsumer, delivery: Delivery, error: Exception) -> None:
        delay_s = self._retries.delay_s(attempt=delivery.attempt)
        if delay_s is None:
            self._bury(consumer, delivery, error)
            return
        _log.warning("handler failed", **self._place(delivery), error=type(error).__name__, exc_info=error)
        self._count(Outcome.RETRIED, delivery)
        consumer.retry(delivery, delay_s=delay_s)

    def _hold(self, consumer: BusConsumer, delivery: Delivery, error: RunOnHold) -> None:
        """Ask again shortly: the run's state will say STALE, or whoever holds it lets it go. Nothing is counted.

        Whoever gives up on outages, as the embedded mode does, has no time for this either.
        """
        if self._outages.give_up_after is not None:
            self._retry_or_bury(consumer, delivery, error)
            return
        _log.info("run on hold", **self._place(delivery), reason=str(error))
        self._count(Outcome.LAGGING, delivery)
        consumer.retry(delivery, delay_s=_ON_HOLD_DELAY_S, count_attempt=False)

    def _handle(self, delivery: Delivery) -> Outcome:
        message = delivery.message
        if is_dead_letter_topic(message.topic):
            assert self._dead_letters is not None
            letter, watcher = read_dead_letter(message), self._dead_letters
            self._work(message, None, lambda: watcher.handler(letter))
            return Outcome.HANDLED
        fact = decode(message)
        gate = self._run_states.gate(fact) if self._run_states is not None else Gate.OPEN
        if gate is Gate.UNKNOWN:
            self._require_announced(delivery, fact)
            return Outcome.LAGGING
        if gate is Gate.STALE:
            return Outcome.STALE
        self._work(message, fact, lambda: self._group.handlers[type(fact)](fact))
        return Outcome.HANDLED

    def _require_announced(self, delivery: Delivery, fact: Fact) -> None:
        """Bear with a view that lags for a while; then ask for the truth. Raises RunNeverAnnounced."""
        assert self._run_states is not None
        place, now_s = (delivery.message.topic, delivery.partition), self._monotonic()
        position, since_s = self._lagging_since_s.get(place, (-1, now_s))
        if position != delivery.position:
            self._lagging_since_s[place] = (delivery.position, now_s)
        elif now_s - since_s >= self._view_lag_limit_s:
            self._run_states.require_announced(fact)

    def _work(self, message: Message, fact: Fact | None, handle: Callable[[], Sequence[Fact]]) -> None:
        """Have a handler's outputs published."""
        with self._watch.handling(message, fact, group=self._group.name) as traceparent:
            self._publish(handle(), cause_id=message.headers.get(EVENT_ID_HEADER), traceparent=traceparent)

    def _bury(self, consumer: BusConsumer, delivery: Delivery, error: Exception) -> None:
        _log.error("dead letter", **self._place(delivery), error=type(error).__name__, exc_info=error)
        undecodable = isinstance(error, UndecodableMessage)
        # The dead letters of dead letters would be read by nobody: the log and the count are their end.
        if not is_dead_letter_topic(delivery.message.topic):
            self._bus.publish([to_dead_letter(delivery, group=self._group.name, error=error)])
        self._count(Outcome.UNDECODABLE if undecodable else Outcome.DEAD_LETTERED, delivery)
        consumer.commit(delivery)

    def _is_paused(self, timeout_s: float) -> bool:
        remaining_s = self._paused_until_s - self._monotonic()
        if remaining_s <= 0:
            return False
        time.sleep(min(remaining_s, timeout_s))
        return self._monotonic() < self._paused_until_s

    def _pause(self, outage: Outage, delivery: Delivery | None) -> None:
        """Stop taking work for a while. The delivery comes again as if it had never been out."""
        now_s = self._monotonic()
        self._failures += 1
        if self._away_since_s is None:
            self._away_since_s = now_s
        if delivery is not None and self._joined is not None:
            self._count(Outcome.OUTAGE, delivery)
            # The bus itself may be what is away; what was out then comes again by its own promise.
            with contextlib.suppress(DependencyUnavailable):
                self._joined.retry(delivery, delay_s=0, count_attempt=False)
        if self._outages.is_over(away_s=now_s - self._away_since_s):
            raise outage
        delay_s = self._outages.delay_s(failures=self._failures)
        self._paused_until_s = now_s + delay_s
        _log.warning("consumption pauses", group=self._group.name, reason=str(outage), delay_s=delay_s)

    def _count(self, outcome: Outcome, delivery: Delivery) -> None:
        self._counter.count(outcome, group=self._group.name, topic=delivery.message.topic)

    def _place(self, delivery: Delivery) -> dict[str, str | int | None]:
        message = delivery.message
        return {
            "group": self._group.name,
            "topic": message.topic,
            "run_id": message.key,
            "event_id": message.headers.get(EVENT_ID_HEADER),
            "attempt": delivery.attempt,
        }
