"""What the loop sets aside, and how policy reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from baldistill.bus.ports import Message
from baldistill.errors import ArtifactMissing, UndecodableMessage
from baldistill.events.codec import decode, encode
from baldistill.events.dead_letters import DeadLetter, dead_letter_topic, read_dead_letter
from baldistill.events.facts import ExamplesSelected, Fact, RunBlocked, StagePlanned
from baldistill.events.identity import event_id
from baldistill.runtime.consumer import ConsumerLoop, DeadLetterWatch
from baldistill.runtime.handlers import ConsumerGroup
from baldistill.runtime.outcomes import Outcome
from tests.unit.runtime.consumer_scene import AT_ONCE, NO_PAUSE, Scene, failing, planned, state, steps

pytestmark = pytest.mark.usefixtures("quiet")


def test_after_five_tries_it_is_dead_lettered_and_what_follows_goes_on(scene: Scene) -> None:
    scene.publish([state(), planned(stage=1), planned(stage=2)])
    done = []

    def handler(fact: StagePlanned) -> Sequence[Fact]:
        if fact.stage == 1:
            raise ValueError("ünlucky: 100 %")
        done.append(fact)
        return []

    assert steps(scene.loop({StagePlanned: handler})) == 6
    assert done == [planned(stage=2)]
    (message,) = scene.published(dead_letter_topic(StagePlanned.TOPIC))
    assert all(text.isascii() for text in message.headers.values())
    assert read_dead_letter(message) == DeadLetter(
        original=encode(planned(stage=1), source="policy"),
        fact=planned(stage=1),
        reason="ünlucky: 100 %",
        error="ValueError",
        group="selector",
        attempts=5,
    )
    assert scene.bus.lag("selector") == 0


def test_a_permanent_error_is_dead_lettered_at_once(scene: Scene) -> None:
    scene.publish([state(), planned()])
    handler, seen = failing(ArtifactMissing(key="gone"))
    assert steps(scene.loop({StagePlanned: handler})) == 1
    assert len(seen) == 1
    letter = read_dead_letter(scene.published(dead_letter_topic(StagePlanned.TOPIC))[0])
    assert (letter.error, letter.attempts) == ("ArtifactMissing", 1)


def test_a_dead_letters_original_can_be_replayed(scene: Scene) -> None:
    scene.publish([state(), planned()])
    handler, _ = failing(ArtifactMissing(key="gone"), times=1)
    loop = scene.loop({StagePlanned: handler})
    steps(loop)
    letter = read_dead_letter(scene.published(dead_letter_topic(StagePlanned.TOPIC))[0])
    scene.bus.publish([letter.original])
    steps(loop)
    assert len(scene.published(ExamplesSelected.TOPIC)) == 1


def test_what_cannot_be_decoded_is_set_aside_under_no_run_and_counted(scene: Scene) -> None:
    scene.bus.publish([Message(topic=StagePlanned.TOPIC, key="r1", value=b"\xff", headers={"ce_id": "x"})])
    assert steps(scene.loop({StagePlanned: lambda _: []})) == 1
    letter = read_dead_letter(scene.published(dead_letter_topic(StagePlanned.TOPIC))[0])
    assert (letter.fact, letter.original.value, letter.error) == (None, b"\xff", "UndecodableMessage")
    assert scene.counts.total(Outcome.UNDECODABLE) == 1
    assert scene.counts.total(Outcome.DEAD_LETTERED) == 0


def policy_loop(scene: Scene, handler: Callable[[DeadLetter], Sequence[Fact]]) -> ConsumerLoop:
    return ConsumerLoop(
        bus=scene.bus,
        group=ConsumerGroup(name="policy", handlers={ExamplesSelected: lambda _: []}),
        run_states=None,
        dead_letters=DeadLetterWatch(topics=[StagePlanned.TOPIC], handler=handler),
        retries=AT_ONCE,
        outages=NO_PAUSE,
        counter=scene.counts,
    )


def test_policy_reads_dead_letters_and_answers_under_no_gate(scene: Scene) -> None:
    scene.publish([state(), planned()])
    steps(scene.loop({StagePlanned: failing(ArtifactMissing(key="gone"))[0]}))

    def block(letter: DeadLetter) -> Sequence[Fact]:
        assert letter.fact is not None
        return [RunBlocked(tenant="acme", run_id="r1", epoch=1, stage=1, topic="t", reason=letter.reason)]

    assert steps(policy_loop(scene, block)) == 1
    (blocked,) = scene.published(RunBlocked.TOPIC)
    assert decode(blocked) == RunBlocked(
        tenant="acme", run_id="r1", epoch=1, stage=1, topic="t", reason=str(ArtifactMissing(key="gone"))
    )
    assert blocked.headers["ce_causationid"] == event_id(planned())


def test_a_dead_letter_that_cannot_be_handled_ends_in_the_count(scene: Scene) -> None:
    scene.publish([state(), planned()])
    steps(scene.loop({StagePlanned: failing(ArtifactMissing(key="gone"))[0]}))

    def broken(_: DeadLetter) -> Sequence[Fact]:
        raise ValueError("a bug")

    assert steps(policy_loop(scene, broken)) == 5
    assert scene.counts.total(Outcome.DEAD_LETTERED, group="policy") == 1
    assert scene.bus.lag("policy") == 0


def test_what_is_no_dead_letter_is_not_read_as_one() -> None:
    with pytest.raises(UndecodableMessage):
        read_dead_letter(encode(planned(), source="policy"))
