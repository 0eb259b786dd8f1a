"""Who of a group gets which partitions: every topic evenly, moving as few as that takes. Pure.

The client library's sticky assignor evens out the sum over all topics: of two members one got all partitions of one
topic and the other all of the next (seen), so that one did all the shards of a stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from baldistill.bus.kafka.buffer import Place


def share_evenly(
    *,
    partitions: Mapping[str, int],
    subscriptions: Mapping[str, Collection[str]],
    owned: Mapping[Place, str],
    busy: Collection[Place] = (),
) -> dict[str, set[Place]]:
    """Return each member's partitions.

    Args: partitions: how many each topic has.   subscriptions: each member's topics.   owned: who has what now.
        busy: of which a delivery is being handled; they move last, because a delivery that moves is handled twice.
    Returns: of every topic, members' counts differ by at most 1, and nobody over its share keeps more than it, nobody
        under it loses any.
    """
    given: dict[str, set[Place]] = {member: set() for member in subscriptions}
    for topic in sorted(partitions):
        members = sorted(member for member, topics in subscriptions.items() if topic in topics)
        if members:
            loads = {member: len(given[member]) for member in members}
            places = [Place(topic, number) for number in range(partitions[topic])]
            _share_topic(sorted(places, key=lambda place: place not in busy), owned, given, loads)
    return given


def without_moving(given: Mapping[str, set[Place]], *, owned: Mapping[Place, str]) -> dict[str, set[Place]]:
    """Return what each member may have at once: what another still has is given in the next round (KIP-429)."""
    return {
        member: {place for place in places if owned.get(place, member) == member} for member, places in given.items()
    }


def _share_topic(
    places: Sequence[Place], owned: Mapping[Place, str], given: dict[str, set[Place]], loads: Mapping[str, int]
) -> None:
    """Give the partitions of one topic to the members of `loads`, which says what they have of other topics."""
    has = Counter(owner for place in places if (owner := owned.get(place)) in loads)
    share, extra = divmod(len(places), len(loads))
    # What cannot be divided stays where it is, or goes to who has least.
    by_claim = sorted(loads, key=lambda member: (-has[member] if has[member] > share else 0, loads[member], member))
    room = {member: share + (number < extra) for number, member in enumerate(by_claim)}
    unplaced = []
    for place in places:
        owner = owned.get(place)
        if owner is not None and room.get(owner, 0) > 0:
            given[owner].add(place)
            room[owner] -= 1
        else:
            unplaced.append(place)
    waiting = [member for member in by_claim for _ in range(room[member])]
    for place, member in zip(unplaced, waiting, strict=True):
        given[member].add(place)
