"""Poison: what no handler can digest ends in the dead letters with its reason, blocks its own run alone, and is mended."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from baldistill.artifacts.ports import ArtifactRef, require_manifest
from baldistill.bus.ports import Bus, Message
from baldistill.events.codec import encode
from baldistill.events.facts import ExamplesSelected, RunState, StagePlanned
from tests.stack.artifacts import data_files, differing
from tests.stack.stack_home import StackHome
from tests.stack.waiting import wait_until
from tests.stack.workload import Workload

pytestmark = pytest.mark.timeout(900)
GATEWAYS = ("teacher-gateway", "teacher-gateway-2")
BUCKET = "baldistill"
# Variants that no other test runs: what a gateway has read once it keeps, and such damage would not even be noticed.
DAMAGES = {"missing": 1, "corrupt": 2}


def test_what_cannot_be_decoded_is_listed_and_resume_finishes_the_run_whose_work_it_was(
    stack: StackHome, workload: Workload, tmp_path: Path
) -> None:
    workload.make_references(variants=1)
    stack.stop_service("selector")
    run_id = stack.submit(workload.spec(0, under=tmp_path, name="garbled"))
    bus = stack.open_bus()
    try:
        _wait_for_message(bus, StagePlanned.TOPIC, key=run_id)
        stack.forget_messages(StagePlanned.TOPIC)
        bus.publish(_poison(key=run_id))
    finally:
        bus.close()
    stack.start_service("selector")
    letters = wait_until(lambda: found if len(found := _undecodable(stack)) >= 2 else [])
    assert {one["run_id"] for one in letters} == {None}
    assert any("NoSuchFact" in str(one["reason"]) for one in letters)
    refused = stack.command("dlq", "replay", str(letters[0]["letter_id"]))
    assert refused.code != 0
    assert "resume" in refused.err
    # Nobody can tell whose it was: the run stands still, and nothing of it is blocked.
    assert stack.states([run_id])[run_id] is RunState.RUNNING
    assert stack.store.find_manifest(f"tenants/default/runs/{run_id}/stage-01/selection.json") is None
    resumed = stack.command("resume", "garbled")
    assert resumed.code == 0, resumed.err
    stack.wait_for(run_id, RunState.COMPLETED)
    assert differing(data_files(stack.store, tenant="default", run_id=run_id), workload.reference(0)) == []


def test_a_damaged_artifact_blocks_its_run_until_it_is_mended_and_replayed(
    stack: StackHome, workload: Workload, tmp_path: Path
) -> None:
    workload.make_references()
    for gateway in GATEWAYS:
        stack.stop_service(gateway)
    # No gateway: nobody freezes money, so nothing is asked of it; what was selected waits.
    damaged = {}
    for damage, variant in DAMAGES.items():
        run_id = stack.submit(workload.spec(variant, under=tmp_path, name=f"damaged-{damage}"))
        key = f"tenants/default/runs/{run_id}/stage-01/selection.json"
        wait_until(lambda key=key: stack.store.find_manifest(key))  # type: ignore[misc]
        selection = require_manifest(stack.store, key).files["selection"]
        damaged[run_id] = (selection, _damage(stack, selection, damage), variant)
    stack.start_services(GATEWAYS)
    for run_id, (selection, whole, _) in damaged.items():
        stack.wait_for(run_id, RunState.BLOCKED)
        assert selection.key.rpartition("/")[2] in stack.reason(run_id)
        letters = json.loads(stack.command("dlq", "list", "--json").out)
        # One for each shard that met the damage before the run was blocked; any of them lets the run go on.
        letter = next(one for one in letters if one["run_id"] == run_id)
        shown = stack.command("dlq", "show", letter["letter_id"], "--json")
        assert json.loads(shown.out)["headers"]["ce_type"] == "baldistill.v1.AnnotationShardPlanned"
        _put(stack, selection.key, whole)
        replayed = stack.command("dlq", "replay", letter["letter_id"])
        assert replayed.code == 0, replayed.err
    for run_id, (_, _, variant) in damaged.items():
        stack.wait_for(run_id, RunState.COMPLETED)
        assert differing(data_files(stack.store, tenant="default", run_id=run_id), workload.reference(variant)) == []


def _poison(*, key: str) -> list[Message]:
    """Return bytes that are no fact, and a fact of a type that nobody knows."""
    told = encode(_fact(), source="test")
    headers = {**told.headers, "ce_type": "baldistill.v1.NoSuchFact"}
    return [
        Message(topic=StagePlanned.TOPIC, key=key, value=b"\xff\xfe garbage", headers={"ce_id": "g1"}),
        Message(topic=StagePlanned.TOPIC, key=key, value=told.value, headers=headers),
    ]


def _undecodable(stack: StackHome) -> list[dict[str, object]]:
    letters = json.loads(stack.command("dlq", "list", "--json").out)
    return [one for one in letters if one["error"] == "UndecodableMessage"]


def _wait_for_message(bus: Bus, topic: str, *, key: str) -> None:
    consumer = bus.consumer(group="onlooker", topics=[topic])

    def comes() -> bool:
        delivery = consumer.poll(timeout_s=0.2)
        if delivery is None:
            return False
        consumer.commit(delivery)
        return delivery.message.key == key

    wait_until(comes)
    consumer.close()


def _damage(stack: StackHome, ref: ArtifactRef, damage: str) -> bytes:
    """Damage an object and return what it was."""
    answer = stack.raw_store().get_object(BUCKET, ref.key)
    whole: bytes = answer.read()
    answer.close()
    if damage == "missing":
        stack.raw_store().remove_object(BUCKET, ref.key)
    else:
        _put(stack, ref.key, whole[:-1] + bytes([whole[-1] ^ 1]))
    return whole


def _put(stack: StackHome, key: str, data: bytes) -> None:
    stack.raw_store().put_object(BUCKET, key, io.BytesIO(data), len(data))


def _fact() -> ExamplesSelected:
    nothing = ArtifactRef(key="nothing", sha256="0" * 64, size_bytes=0)
    return ExamplesSelected(
        tenant="default", run_id="nobody", epoch=1, stage=1, spec=nothing, plan=nothing, selection=nothing
    )
