"""The newest message of each key of a compacted topic, kept by a thread that reads along from the beginning (DESIGN 3)."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import structlog
from kafka import KafkaConsumer, TopicPartition

from baldistill.bus.kafka.clients import BOOTSTRAP_MS, KafkaClients
from baldistill.bus.kafka.reader import join_all_partitions
from baldistill.bus.kafka.records import read_record
from baldistill.bus.ports import Message
from baldistill.errors import DependencyUnavailable

_POLL_MS = 100
_TROUBLE_S = 0.5
# How long somebody waits for all that was published before they asked.
_CATCH_UP_S = 10.0

_log = structlog.get_logger(__name__)


class KafkaTable:
    """Thread-safe. What it shows outlives an outage of the broker; only catching up needs one that answers."""

    def __init__(self, clients: KafkaClients, topic: str) -> None:
        self._clients = clients
        self._topic = topic
        self._newest: dict[str, Message] = {}
        self._lock = threading.Lock()
        self._waiting: list[threading.Event] = []
        self._trouble: Exception | None = None
        self._filled = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"table-{topic}", daemon=True)
        self._thread.start()

    def newest(self, key: str) -> Message | None:
        """Return a key's newest message. The first call waits until all was read once. Raises DependencyUnavailable."""
        if not self._filled.is_set():
            self._catch_up()
        return self._newest.get(key)

    def all(self) -> Sequence[Message]:
        """Return the newest message of every key, as of this call. Raises DependencyUnavailable."""
        self._catch_up()
        with self._lock:
            return list(self._newest.values())

    def close(self) -> None:
        """Stop reading along. Idempotent."""
        self._closing.set()
        self._thread.join(timeout=BOOTSTRAP_MS / 1000 + 5)

    def _catch_up(self) -> None:
        caught_up = threading.Event()
        with self._lock:
            self._waiting.append(caught_up)
        if not caught_up.wait(_CATCH_UP_S) or self._closing.is_set():
            reason = (
                str(self._trouble) if self._trouble else f"{self._topic} was not read to its end in {_CATCH_UP_S} s"
            )
            raise DependencyUnavailable(dependency="kafka", reason=reason)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                consumer = join_all_partitions(self._clients, [self._topic], from_the_end=False)
            except DependencyUnavailable as away:
                self._trouble = away
                self._closing.wait(_TROUBLE_S)
                continue
            try:
                self._read_along(consumer)
            # Read anew from the beginning: the same records lead to the same table.
            except Exception as error:  # noqa: BLE001
                self._trouble = error
                _log.warning("table reads anew", topic=self._topic, error=type(error).__name__, reason=str(error))
                self._closing.wait(_TROUBLE_S)
            finally:
                consumer.close(autocommit=False, timeout_ms=1000)

    def _read_along(self, consumer: KafkaConsumer) -> None:
        while not self._closing.is_set():
            with self._lock:
                asked, self._waiting = self._waiting, []
            if asked:
                try:
                    self._read_to(consumer, consumer.end_offsets(list(consumer.assignment()), timeout_ms=BOOTSTRAP_MS))
                # Whatever it was, who asked waits on for the next reading; what went wrong is met where this is called.
                except Exception:
                    with self._lock:
                        self._waiting += asked
                    raise
                self._filled.set()
                for one in asked:
                    one.set()
            self._take(consumer, timeout_ms=_POLL_MS)
            self._trouble = None

    def _read_to(self, consumer: KafkaConsumer, ends: dict[TopicPartition, int]) -> None:
        give_up_at = time.monotonic() + _CATCH_UP_S
        while any(consumer.position(one, timeout_ms=BOOTSTRAP_MS) < end for one, end in ends.items()):
            if self._closing.is_set() or time.monotonic() > give_up_at:
                raise DependencyUnavailable(dependency="kafka", reason=f"{self._topic} could not be read to its end")
            self._take(consumer, timeout_ms=_POLL_MS)

    def _take(self, consumer: KafkaConsumer, *, timeout_ms: int) -> None:
        fetched = consumer.poll(timeout_ms=timeout_ms)
        records = sorted((one for part in fetched.values() for one in part), key=lambda record: record.timestamp)
        with self._lock:
            for record in records:
                message = read_record(record, topic=self._topic)
                self._newest.pop(message.key, None)
                # A record without a value is a deletion, and will be gone from the topic itself.
                if record.value is not None:
                    self._newest[message.key] = message
