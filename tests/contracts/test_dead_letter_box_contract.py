"""Promises of DeadLetterBox, over every database."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from baldistill.artifacts.ports import ArtifactRef
from baldistill.bus.ports import Delivery, Message
from baldistill.errors import NotKnown
from baldistill.events.codec import encode
from baldistill.events.dead_letters import read_dead_letter, to_dead_letter
from baldistill.events.facts import Fact, StudentTrained
from baldistill.testing.databases import DATABASE_KINDS, StoppedClock, new_location, open_test_database
from services.policy.adapters.sql_letters import SqlDeadLetterBox
from services.policy.letters import DeadLetterBox, KeptLetter, kept_letter

REF = ArtifactRef(key="x.json", sha256="00", size_bytes=1)


@pytest.fixture(params=DATABASE_KINDS)
def box(request: pytest.FixtureRequest, tmp_path: Path, clock: StoppedClock) -> Iterator[DeadLetterBox]:
    with new_location(request.param, tmp_path) as location:
        engine = open_test_database(kind=request.param, location=location)
        yield SqlDeadLetterBox(engine, clock=clock)
        engine.dispose()


def trained(*, tenant: str = "acme", run_id: str = "r", stage: int = 1) -> StudentTrained:
    return StudentTrained(
        tenant=tenant, run_id=run_id, epoch=3, stage=stage, student=REF, metrics=REF, budget_exhausted=False
    )


def letter(what: Fact | Message, *, reason: str = "artifact is missing", group: str = "trainer") -> KeptLetter:
    message = encode(what, source="test") if isinstance(what, Fact) else what
    delivery = Delivery(message=message, attempt=5, partition=0, position=0)
    return kept_letter(read_dead_letter(to_dead_letter(delivery, group=group, error=ValueError(reason))))


def garbage(value: bytes = b"\x00\xff garbage") -> Message:
    return Message(topic=StudentTrained.TOPIC, key="who\x00knows", value=value, headers={"odd": "h\x00i"})


def ids(letters: list[KeptLetter]) -> list[str]:
    return [one.letter_id for one in letters]


def test_a_letter_is_kept_whole(box: DeadLetterBox) -> None:
    kept = letter(trained())
    box.keep(kept)
    found = box.find(kept.letter_id)
    assert found is not None
    assert found.first_seen_at is not None
    assert dataclasses.replace(found, first_seen_at=None) == kept
    assert (found.tenant, found.run_id, found.epoch, found.stage) == ("acme", "r", 3, 1)
    assert (found.group, found.error, found.reason, found.attempts) == (
        "trainer",
        "ValueError",
        "artifact is missing",
        5,
    )


def test_garbage_belongs_to_no_run_and_keeps_its_bytes(box: DeadLetterBox) -> None:
    kept = letter(garbage(), reason="a\x00b")
    box.keep(kept)
    found = box.find(kept.letter_id)
    assert found is not None
    assert (found.tenant, found.run_id, found.is_decodable) == ("", "", False)
    assert (found.message.value, found.message.headers["odd"]) == (b"\x00\xff garbage", "h\x00i")


def test_the_same_message_given_up_on_by_the_same_group_is_the_same_letter() -> None:
    assert letter(trained()).letter_id == letter(trained(), reason="another").letter_id
    assert letter(garbage()).letter_id == letter(garbage()).letter_id
    different = [letter(trained()), letter(trained(), group="policy"), letter(trained(stage=2))]
    different += [letter(garbage()), letter(garbage(b"other"))]
    assert len(set(ids(different))) == len(different)


def test_a_letter_that_comes_again_waits_again_with_its_newest_reason(box: DeadLetterBox, clock: StoppedClock) -> None:
    kept = letter(trained())
    box.keep(kept)
    clock.advance(60)
    marked = box.mark_replayed(kept.letter_id, by="acme/anna")
    assert marked.replayed_at is not None
    assert marked.replayed_by == "acme/anna"
    assert box.page(tenant="acme", run_id="", with_replayed=False, size=9, after=None) == []
    assert ids(box.page(tenant="acme", run_id="", with_replayed=True, size=9, after=None)) == [kept.letter_id]
    box.keep(letter(trained(), reason="still missing"))
    (again,) = box.page(tenant="acme", run_id="", with_replayed=False, size=9, after=None)
    assert (again.reason, again.replayed_at) == ("still missing", None)


def test_pages_go_from_the_newest_to_the_oldest_of_a_tenant_or_run(box: DeadLetterBox, clock: StoppedClock) -> None:
    letters = [letter(trained(stage=stage)) for stage in range(1, 6)]
    for number, one in enumerate(letters):
        # Two were seen at the same time.
        clock.advance(0 if number == 2 else 1)
        box.keep(one)
    box.keep(letter(trained(tenant="other")))
    box.keep(letter(garbage()))
    seen: list[KeptLetter] = []
    while page := box.page(tenant="acme", run_id="", with_replayed=False, size=2, after=seen[-1] if seen else None):
        seen += page
    assert sorted(ids(seen)) == sorted(ids(letters))
    assert [one.stage for one in (seen[0], seen[1], seen[4])] == [5, 4, 1]
    assert len(box.page(tenant=None, run_id="", with_replayed=False, size=99, after=None)) == 7
    assert box.page(tenant="acme", run_id="another", with_replayed=False, size=99, after=None) == []


def test_an_unknown_letter_is_not_known(box: DeadLetterBox) -> None:
    assert box.find("nothing") is None
    with pytest.raises(NotKnown):
        box.mark_replayed("nothing", by="anna")


def test_letters_that_wait_are_counted_by_topic(box: DeadLetterBox) -> None:
    assert box.count_waiting() == {}
    for one in (letter(trained()), letter(trained(stage=2)), letter(garbage())):
        box.keep(one)
    box.mark_replayed(letter(trained()).letter_id, by="operator")
    assert box.count_waiting() == {StudentTrained.TOPIC: 2}
