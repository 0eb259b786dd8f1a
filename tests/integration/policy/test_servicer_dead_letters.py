"""policy's RPCs over a real server: a dead letter blocks its run, is shown to whom it belongs, and is replayed."""

from __future__ import annotations

from typing import Any

import pytest

from baldistill.artifacts.ports import ArtifactRef
from baldistill.bus.ports import Delivery, Message
from baldistill.errors import AccessDenied, NotAllowedNow, NotKnown
from baldistill.events.codec import encode
from baldistill.events.dead_letters import to_dead_letter
from baldistill.events.facts import RunState, RunSubmitted, StudentTrained
from baldistill.v1 import events_pb2, policy_pb2
from tests.integration.policy.served_policy import Served, eventually, submit

REF = ArtifactRef(key="x.json", sha256="00", size_bytes=1)


def dead(served: Served, what: StudentTrained | RunSubmitted | Message) -> None:
    message = what if isinstance(what, Message) else encode(what, source="test")
    delivery = Delivery(message=message, attempt=5, partition=0, position=0)
    served.bus.publish([to_dead_letter(delivery, group="trainer", error=ValueError("artifact is missing"))])


def test_a_dead_letter_blocks_its_run_and_replayed_lets_it_go_on(served: Served) -> None:
    stub, stranger = served.stub("acme"), served.stub("other")
    run = submit(stub).run
    named: dict[str, Any] = {"tenant": "acme", "run_id": run.run_id}

    def now() -> policy_pb2.Run:
        return stub.GetRun(policy_pb2.GetRunRequest(**named)).run

    eventually(lambda: now().stage == 1)
    dead(served, StudentTrained(**named, epoch=1, stage=1, student=REF, metrics=REF, budget_exhausted=False))
    eventually(lambda: now().state == events_pb2.RUN_STATE_BLOCKED)
    assert now().reason == "artifact is missing"
    (letter,) = stub.ListDeadLetters(policy_pb2.ListDeadLettersRequest(tenant="acme")).letters
    assert (letter.run_id, letter.group, letter.attempts) == (run.run_id, "trainer", 5)
    assert not letter.value
    whole = stub.GetDeadLetter(policy_pb2.GetDeadLetterRequest(letter_id=letter.letter_id)).letter
    assert whole.value
    assert "ce_id" in {header.name for header in whole.headers}
    with pytest.raises(NotKnown):
        stranger.GetDeadLetter(policy_pb2.GetDeadLetterRequest(letter_id=letter.letter_id))
    with pytest.raises(NotKnown):
        stranger.ReplayDeadLetter(policy_pb2.ReplayDeadLetterRequest(letter_id=letter.letter_id))

    replayed = stub.ReplayDeadLetter(policy_pb2.ReplayDeadLetterRequest(letter_id=letter.letter_id))
    assert (replayed.run.state, replayed.run.epoch) == (events_pb2.RUN_STATE_RUNNING, 2)
    assert replayed.letter.replayed_by.startswith("acme/")
    # The fact itself came under the new epoch: the student of stage 1 leads to stage 2.
    eventually(lambda: now().stage == 2)
    assert not stub.ListDeadLetters(policy_pb2.ListDeadLettersRequest(tenant="acme")).letters
    everything = policy_pb2.ListDeadLettersRequest(tenant="acme", include_replayed=True)
    assert len(stub.ListDeadLetters(everything).letters) == 1


def test_what_cannot_be_decoded_belongs_to_no_run_and_is_shown_to_admins(served: Served) -> None:
    user, admin = served.stub("acme"), served.stub("acme", is_admin=True)
    run = submit(user).run
    dead(served, Message(topic=StudentTrained.TOPIC, key=run.run_id, value=b"\xff garbage"))
    everyones = policy_pb2.ListDeadLettersRequest()
    eventually(lambda: len(admin.ListDeadLetters(everyones).letters) == 1)
    (letter,) = admin.ListDeadLetters(everyones).letters
    assert (letter.tenant, letter.run_id) == ("", "")
    with pytest.raises(NotAllowedNow, match="baldistill resume"):
        admin.ReplayDeadLetter(policy_pb2.ReplayDeadLetterRequest(letter_id=letter.letter_id))
    with pytest.raises(AccessDenied):
        user.ListDeadLetters(everyones)
    assert user.GetRun(policy_pb2.GetRunRequest(tenant="acme", run_id=run.run_id)).run.state == (
        events_pb2.RUN_STATE_RUNNING
    )


def test_the_letter_of_a_run_that_is_over_or_paused_is_not_replayed(served: Served) -> None:
    stub = served.stub("acme")
    run = submit(stub).run
    named: dict[str, Any] = {"tenant": "acme", "run_id": run.run_id}
    dead(served, StudentTrained(**named, epoch=1, stage=1, student=REF, metrics=REF, budget_exhausted=False))
    mine = policy_pb2.ListDeadLettersRequest(tenant="acme")
    eventually(lambda: len(stub.ListDeadLetters(mine).letters) == 1)
    replay = policy_pb2.ReplayDeadLetterRequest(letter_id=stub.ListDeadLetters(mine).letters[0].letter_id)
    stub.PauseRun(policy_pb2.PauseRunRequest(**named))
    with pytest.raises(NotAllowedNow, match=RunState.PAUSED.value):
        stub.ReplayDeadLetter(replay)
    stub.CancelRun(policy_pb2.CancelRunRequest(**named))
    with pytest.raises(NotAllowedNow, match="it is over"):
        stub.ReplayDeadLetter(replay)
