"""The group protocol around `share_evenly`: incremental cooperative rebalancing (KIP-429)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from kafka import TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

from baldistill.bus.kafka.buffer import Place
from baldistill.bus.kafka.sharing import share_evenly, without_moving


class EvenStickyAssignor(CooperativeStickyAssignor):  # type: ignore[misc]  # the library is untyped
    """Shares every topic evenly. All members of a group must use it; its name says so to the broker.

    busy: names of topics and numbers of partitions of which the member has a delivery out.
    owned_now: what the member has. The library reports what it was last given instead, also after it lost all of it;
    such a partition would wait for a member that does not know of it.
    """

    name = "baldistill-even-sticky"

    def __init__(self, *, busy: Callable[[], Sequence[Place]]) -> None:
        super().__init__()
        self._busy = busy
        self.owned_now: Callable[[], Collection[TopicPartition]] = set

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolSubscription:
        """Return what the member tells the leader when it joins."""
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for topic, number in sorted(self.owned_now()):
            numbers[topic].append(number)
        owned = [
            ConsumerProtocolSubscription.TopicPartition(topic=topic, partitions=some) for topic, some in numbers.items()
        ]
        return ConsumerProtocolSubscription(
            version=self.version,
            topics=sorted(topics),
            user_data=json.dumps(self._busy()).encode(),
            owned_partitions=owned,
        )

    def assign(self, cluster: Any, members: Sequence[Any]) -> dict[str, ConsumerProtocolAssignment]:
        """Return, as the group's leader, what each member has from now on."""
        subscriptions = {member.member_id: set(member.metadata.topics) for member in members}
        topics = set().union(*subscriptions.values())
        owned = {
            Place(one.topic, number): member.member_id
            for member in members
            for one in member.metadata.owned_partitions or ()
            for number in one.partitions
        }
        given = share_evenly(
            partitions={topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics},
            subscriptions=subscriptions,
            owned=owned,
            busy={Place(*place) for member in members for place in json.loads(member.metadata.user_data or b"[]")},
        )
        return {member: self._encoded(places) for member, places in without_moving(given, owned=owned).items()}

    def _encoded(self, places: Iterable[Place]) -> ConsumerProtocolAssignment:
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for place in sorted(places):
            numbers[place.topic].append(place.partition)
        return ConsumerProtocolAssignment(self.version, sorted(numbers.items()), b"")
