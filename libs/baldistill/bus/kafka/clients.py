"""How the Kafka client library is set up: the settings that the event chain's promises need, and nothing else (DESIGN 3).

A client whose construction fails has started a thread already; here it is ended, so that an outage leaks nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError, MessageSizeTooLargeError
from kafka.net.compat import KafkaNetClient

from baldistill.bus.kafka.assignor import EvenStickyAssignor
from baldistill.bus.kafka.buffer import Place
from baldistill.bus.kafka.member import GroupMember
from baldistill.bus.ports import MessageTooLarge
from baldistill.errors import BalDistillError, DependencyUnavailable
from baldistill.settings import KafkaSettings

_Client = TypeVar("_Client")

# A client looks for its broker this long; whoever asked then hears that it is away.
BOOTSTRAP_MS = 5_000
# A broker that took the connection and does not answer: noticed after this long.
_REQUEST_MS = 8_000
# The library's own, 30 s, would be added to every outage.
_LONGEST_RECONNECT_MS = 1_000
# A topic made after its consumer joined is found within this time.
_METADATA_AGE_MS = 15_000
# Dead letters carry their original and the reason: more than a fact may be large (topics.py).
_LARGEST_REQUEST_BYTES = 3 * 1024 * 1024
# Who watches sees facts in handfuls of so many bytes, or of so long.
_WATCHED_BYTES = 256 * 1024
_WATCHED_MS = 200
# A first message larger than this still comes; what is fetched ahead stays small.
_FETCH_PARTITION_BYTES = 256 * 1024


class KafkaClients:
    """Makes clients of one broker. Thread-safe: every client belongs to whoever asked for it."""

    def __init__(self, settings: KafkaSettings, *, client_id: str) -> None:
        self.settings = settings
        self.client_id = client_id
        # The library logs every attempt to reconnect; what matters of it is raised or logged by us.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)

    def on_wire(self, name: str) -> str:
        """Return a topic's or group's name as the broker knows it."""
        return self.settings.prefix + name

    def in_code(self, name: str) -> str:
        """Return a topic's name as the code knows it."""
        return name.removeprefix(self.settings.prefix)

    def producer(self) -> KafkaProducer:
        """Raises DependencyUnavailable where the broker is away."""
        timeout_ms = int(self.settings.publish_timeout_s * 1000)
        return self._build(
            KafkaProducer,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            delivery_timeout_ms=timeout_ms,
            request_timeout_ms=min(_REQUEST_MS, timeout_ms),
            max_block_ms=BOOTSTRAP_MS,
            max_request_size=_LARGEST_REQUEST_BYTES,
            bootstrap_timeout_ms=BOOTSTRAP_MS,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

    def member(self, *, group: str, busy: Callable[[], Sequence[Place]]) -> GroupMember:
        """Return a member of a group, without topics yet. Raises DependencyUnavailable.

        busy: the partitions of which a delivery is out; asked when partitions are shared out.
        """
        settings = self.settings
        assignor = EvenStickyAssignor(
            busy=lambda: [Place(self.on_wire(place.topic), place.partition) for place in busy()]
        )
        member = self._consumer(
            GroupMember,
            group_id=self.on_wire(group),
            # The library's default, latest, would skip what was published before the group first joined.
            auto_offset_reset="earliest",
            partition_assignment_strategy=(assignor,),
            max_poll_interval_ms=int(settings.max_poll_interval_s * 1000),
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            heartbeat_interval_ms=int(settings.session_timeout_s * 1000 / 4),
        )
        assignor.owned_now = member.assignment
        return member

    def reader(self, *, from_the_end: bool) -> KafkaConsumer:
        """Return a consumer that belongs to no group. Raises DependencyUnavailable."""
        if not from_the_end:
            return self._consumer(KafkaConsumer, group_id=None, auto_offset_reset="earliest")
        return self._consumer(
            KafkaConsumer,
            group_id=None,
            auto_offset_reset="latest",
            # It is of every topic, and people watch it: a few wake-ups a second, not one for every fact.
            fetch_min_bytes=_WATCHED_BYTES,
            fetch_max_wait_ms=_WATCHED_MS,
        )

    def admin(self) -> KafkaAdminClient:
        """Raises DependencyUnavailable."""
        return self._build(KafkaAdminClient, request_timeout_ms=_REQUEST_MS, bootstrap_timeout_ms=BOOTSTRAP_MS)

    def _consumer(self, kind: Callable[..., _Client], **configs: Any) -> _Client:
        common: dict[str, Any] = {
            "enable_auto_commit": False,
            "metrics_enabled": False,
            "allow_auto_create_topics": False,
            # The broker answers as soon as there is one byte; the wait is only for silence.
            "fetch_min_bytes": 1,
            "fetch_max_wait_ms": 500,
            "max_partition_fetch_bytes": _FETCH_PARTITION_BYTES,
            "request_timeout_ms": _REQUEST_MS,
            "bootstrap_timeout_ms": BOOTSTRAP_MS,
        }
        return self._build(kind, **(common | configs))

    def _build(self, kind: Callable[..., _Client], **configs: Any) -> _Client:
        networks: list[KafkaNetClient] = []

        def network(**network_configs: Any) -> KafkaNetClient:
            networks.append(KafkaNetClient(**network_configs))
            return networks[-1]

        try:
            return kind(
                bootstrap_servers=self.settings.bootstrap_servers.split(","),
                client_id=self.client_id,
                reconnect_backoff_max_ms=_LONGEST_RECONNECT_MS,
                metadata_max_age_ms=_METADATA_AGE_MS,
                kafka_client=network,
                **security_of(self.settings),
                **configs,
            )
        except (KafkaError, OSError) as error:
            for made in networks:
                made.close()
            raise unavailable(error, settings=self.settings) from error


def security_of(settings: KafkaSettings) -> dict[str, Any]:
    """Return the client library's words for transport security and credentials."""
    configs: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if settings.ca_file is not None:
        configs["ssl_cafile"] = str(settings.ca_file)
    if settings.security_protocol.startswith("SASL_"):
        configs |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.username,
            "sasl_plain_password": settings.password.get_secret_value(),
        }
    return configs


def unavailable(error: Exception, *, settings: KafkaSettings, doing: str = "") -> BalDistillError:
    """Return what an error of the client library means to a caller."""
    if isinstance(error, MessageSizeTooLargeError):
        return MessageTooLarge(str(error))
    # Its timeouts say how long, not what for; only its own errors name themselves.
    text = str(error) or type(error).__name__
    reason = f"{settings.bootstrap_servers}: {doing}{': ' if doing else ''}{text}"
    return DependencyUnavailable(dependency="kafka", reason=reason)


@contextlib.contextmanager
def translated(settings: KafkaSettings, *, doing: str = "") -> Iterator[None]:
    """Raise the client library's errors as ours."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise unavailable(error, settings=settings, doing=doing) from error
