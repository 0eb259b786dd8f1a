"""The client library's consumer with two of its faults mended (ADR 9). Belongs to one thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.structs import MemberState

from baldistill.errors import DependencyUnavailable

_METADATA_S = 5.0
# While the group shares its partitions out anew nothing is fetched; a longer look then loses nothing.
_REBALANCING_MS = 500


class GroupMember(KafkaConsumer):  # type: ignore[misc]  # the library is untyped
    """A member of a consumer group that joins knowing its topics, and that always learns what it was given."""

    def join(self, topics: Sequence[str], *, listener: ConsumerRebalanceListener) -> None:
        """Subscribe, and wait until the topics' partitions are known. Raises DependencyUnavailable.

        The library would join at once. A leader that knows of no partitions yet takes all of them from everybody.
        """
        self.subscribe(topics, listener=listener)
        give_up_at = time.monotonic() + _METADATA_S
        while missing := [topic for topic in topics if not self._cluster.partitions_for_topic(topic)]:
            if time.monotonic() > give_up_at:
                reason = f"no topic {missing[0]}; make it: baldistill admin topics --create"
                raise DependencyUnavailable(dependency="kafka", reason=reason)
            time.sleep(0.005)

    def fetch(self, *, timeout_ms: int) -> dict[Any, list[Any]]:
        """Take part in the group and return records by partition; at most `timeout_ms` where all is quiet."""
        is_stable = self._coordinator.state == MemberState.STABLE
        fetched: dict[Any, list[Any]] = self.poll(timeout_ms=timeout_ms if is_stable else _REBALANCING_MS)
        # A poll that ends between a leader's sharing out and the broker's answer leaves a member that waits for
        # nothing, sends no heartbeat and never hears its share. Wanting to join makes the next poll take the answer.
        if self._coordinator.state == MemberState.REBALANCING and not self._coordinator.need_rejoin():
            self._coordinator.request_rejoin()
        return fetched
