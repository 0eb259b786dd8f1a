"""Every topic evenly, moving as few partitions as that takes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from baldistill.bus.kafka.buffer import Place
from baldistill.bus.kafka.sharing import share_evenly, without_moving

Owned = dict[Place, str]


def owners(shares: dict[str, set[Place]]) -> Owned:
    return {place: member for member, places in shares.items() for place in places}


def share(members: list[str], partitions: dict[str, int], owned: Owned | None = None) -> dict[str, set[Place]]:
    return share_evenly(partitions=partitions, subscriptions=dict.fromkeys(members, partitions), owned=owned or {})


def test_two_members_get_half_of_every_topic() -> None:
    shares = share(["a", "b"], {"t": 8, "u": 8})
    for member in ("a", "b"):
        assert Counter(place.topic for place in shares[member]) == {"t": 4, "u": 4}


def test_what_cannot_be_divided_goes_to_who_has_least() -> None:
    shares = share(["a", "b"], {"dlq1": 1, "dlq2": 1, "dlq3": 1, "dlq4": 1})
    assert [len(shares[member]) for member in ("a", "b")] == [2, 2]


def test_a_newcomer_takes_only_its_share_and_the_others_keep_the_rest() -> None:
    before = owners(share(["a", "b"], {"t": 8}))
    after = owners(share(["a", "b", "c"], {"t": 8}, before))
    moved = [place for place in before if before[place] != after[place]]
    assert {after[place] for place in moved} == {"c"}
    assert len(moved) == 2


def test_what_a_member_left_behind_goes_to_the_others_who_keep_what_they_had() -> None:
    before = owners(share(["a", "b", "c"], {"t": 9}))
    after = owners(share(["a", "b"], {"t": 9}, before))
    assert all(after[place] == before[place] for place in before if before[place] != "c")


def test_a_busy_partition_stays_where_it_is_handled() -> None:
    owned = {Place("t", number): "a" for number in range(8)}
    for number in range(8):
        busy = {Place("t", number)}
        shares = share_evenly(partitions={"t": 8}, subscriptions=dict.fromkeys("abc", ("t",)), owned=owned, busy=busy)
        assert busy <= shares["a"]


def test_a_moving_partition_is_given_when_its_owner_let_it_go() -> None:
    owned = {Place("t", number): "a" for number in range(4)}
    given_now = without_moving(share(["a", "b"], {"t": 4}, owned), owned=owned)
    assert len(given_now["a"]) == 2
    assert given_now["b"] == set()
    let_go = dict.fromkeys(given_now["a"], "a")
    assert len(without_moving(share(["a", "b"], {"t": 4}, let_go), owned=let_go)["b"]) == 2


@settings(deadline=None)
@given(
    members=st.sets(st.sampled_from("abcdef"), min_size=1),
    partitions=st.dictionaries(st.sampled_from(["t", "u", "v"]), st.integers(1, 9), min_size=1),
    data=st.data(),
)
def test_every_partition_has_one_owner_and_shares_differ_by_at_most_one(
    members: set[str], partitions: dict[str, int], data: st.DataObject
) -> None:
    places = [Place(topic, number) for topic, count in partitions.items() for number in range(count)]
    # Also owned by members that are gone, and by nobody.
    owned = {
        place: owner for place in places if (owner := data.draw(st.sampled_from([*"abcdefgh", ""]), label=str(place)))
    }
    shares = share(sorted(members), partitions, owned)
    assert sorted(place for share in shares.values() for place in share) == sorted(places)
    for topic, count in partitions.items():
        counts = [sum(place.topic == topic for place in shares[member]) for member in members]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == count
    # Shared once, shared for good: the same members ask for no more moves.
    assert owners(share(sorted(members), partitions, owners(shares))) == owners(shares)
