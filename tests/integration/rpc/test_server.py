"""Calls over the loopback: good callers are answered, bad ones get the right status, a useful message, and no change."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import structlog
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from baldistill.errors import (
    AccessDenied,
    AlreadyThere,
    ArtifactMissing,
    DependencyUnavailable,
    InvalidInput,
    LimitReached,
    NotAllowedNow,
    NotKnown,
    StorageFull,
)
from baldistill.rpc.limits import ServerLimits
from baldistill.rpc.listening import ListenFailed
from baldistill.rpc.server import RpcServer
from baldistill.telemetry.logs import configure_logging
from baldistill.v1 import policy_pb2, policy_pb2_grpc
from tests.integration.rpc.conftest import SERVICE, Policy, Tokens, bound, token

GET = policy_pb2.GetRunRequest(tenant="acme", run_id="r1")


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details() or ""


@pytest.fixture
def logged() -> Iterator[Callable[[], list[dict[str, object]]]]:
    stream = io.StringIO()
    configure_logging(service="policy", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


def test_a_plain_sync_method_answers_for_the_caller_of_its_token(stub: policy_pb2_grpc.PolicyServiceStub) -> None:
    answer = stub.GetRun(GET, metadata=token())
    assert (answer.run.run_id, answer.run.reason) == ("r1", "laptop")


def test_an_async_method_answers_for_the_caller_of_its_token(stub: policy_pb2_grpc.PolicyServiceStub) -> None:
    assert stub.ListRuns(policy_pb2.ListRunsRequest(tenant="acme"), metadata=token()).next_page_token == "async"


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ((), "no bearer token was sent"),
        (token("guessed"), "the token is not known"),
        ((("authorization", "Basic YWNtZQ=="),), "not 'Bearer <token>'"),
    ],
)
def test_a_caller_without_a_good_token_changes_nothing(
    stub: policy_pb2_grpc.PolicyServiceStub, policy: Policy, metadata: tuple[tuple[str, str], ...], says: str
) -> None:
    policy.release.set()
    code, details = refused(lambda: stub.PauseRun(policy_pb2.PauseRunRequest(run_id="r1"), metadata=metadata))
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert says in details
    assert "BALDISTILL_TOKEN" in details
    assert policy.changed == []


def test_another_tenants_run_is_not_for_this_caller(stub: policy_pb2_grpc.PolicyServiceStub) -> None:
    other = policy_pb2.GetRunRequest(tenant="umbrella", run_id="r1")
    code, details = refused(lambda: stub.GetRun(other, metadata=token()))
    assert (code, details) == (grpc.StatusCode.PERMISSION_DENIED, "'laptop' may not act for tenant 'umbrella'")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("bad", field="spec"), grpc.StatusCode.INVALID_ARGUMENT),
        (NotKnown(kind="run", name="r9"), grpc.StatusCode.NOT_FOUND),
        (ArtifactMissing(key="k"), grpc.StatusCode.NOT_FOUND),
        (AlreadyThere(kind="run", name="r1", difference="stages"), grpc.StatusCode.ALREADY_EXISTS),
        (NotAllowedNow("it is final"), grpc.StatusCode.FAILED_PRECONDITION),
        (LimitReached("2 runs at once"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (AccessDenied(subject="laptop", tenant="x"), grpc.StatusCode.PERMISSION_DENIED),
        (DependencyUnavailable(dependency="database", reason="refused"), grpc.StatusCode.UNAVAILABLE),
        (StorageFull(path=Path("/data")), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_an_error_has_its_code_and_its_own_text(
    stub: policy_pb2_grpc.PolicyServiceStub, policy: Policy, error: Exception, code: grpc.StatusCode
) -> None:
    def fail(*_: object) -> policy_pb2.GetRunResponse:
        raise error

    policy.get = fail
    assert refused(lambda: stub.GetRun(GET, metadata=token())) == (code, str(error))


def test_a_bug_is_internal_and_its_text_stays_in_the_log(
    stub: policy_pb2_grpc.PolicyServiceStub, policy: Policy, logged: Callable[[], list[dict[str, object]]]
) -> None:
    def fail(*_: object) -> policy_pb2.GetRunResponse:
        raise ValueError("password hunter2")

    policy.get = fail
    code, details = refused(lambda: stub.GetRun(GET, metadata=token()))
    assert code is grpc.StatusCode.INTERNAL
    assert "hunter2" not in details
    (failure,) = [line for line in logged() if line["event"] == "call failed"]
    assert "hunter2" in str(failure["exception"])
    assert str(failure["call_id"]) in details


def test_garbage_is_an_invalid_argument(channel: grpc.Channel) -> None:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/GetRun")
    code, details = refused(lambda: call(b"\xff\xff", metadata=token()))
    assert (code, "no GetRun request" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_an_unknown_method_is_unimplemented_and_the_known_services_are_named(channel: grpc.Channel) -> None:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/baldistill.v1.Policy/Get")
    code, details = refused(lambda: call(b""))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "/baldistill.v1.Policy/Get" in details
    assert SERVICE in details


def test_an_oversized_request_is_refused_with_both_sizes(
    stub: policy_pb2_grpc.PolicyServiceStub, policy: Policy
) -> None:
    policy.release.set()
    request = policy_pb2.PauseRunRequest(run_id="r1", reason="x" * 5_000_000)
    code, details = refused(lambda: stub.PauseRun(request, metadata=token()))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "4194304" in details
    assert policy.changed == []


def test_an_oversized_answer_is_refused_with_what_to_do(
    stub: policy_pb2_grpc.PolicyServiceStub, policy: Policy
) -> None:
    policy.get = lambda *_: policy_pb2.GetRunResponse(run=policy_pb2.Run(reason="x" * 17_000_000))
    code, details = refused(lambda: stub.GetRun(GET, metadata=token()))
    assert (code, "page_size" in details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)


def test_nothing_is_changed_after_the_callers_deadline(stub: policy_pb2_grpc.PolicyServiceStub, policy: Policy) -> None:
    request = policy_pb2.PauseRunRequest(run_id="r1")
    code, _ = refused(lambda: stub.PauseRun(request, metadata=token(), timeout=1.5))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert policy.entered.is_set()
    # The server counts from when the request arrived, so that its deadline comes a little after the caller's.
    time.sleep(0.2)
    policy.release.set()
    time.sleep(0.2)
    assert policy.changed == []


def test_a_call_without_a_deadline_gets_the_servers(policy: Policy, tokens: Tokens) -> None:
    server = RpcServer([bound(policy)], listen="127.0.0.1:0", verifier=tokens, limits=ServerLimits(longest_unary_s=0.2))
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        code, details = refused(lambda: stub.PauseRun(policy_pb2.PauseRunRequest(run_id="r1"), metadata=token()))
    policy.release.set()
    server.stop(grace_s=0)
    assert (code, details) == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "the call's deadline is over; ask again with more time",
    )
    assert policy.changed == []


def test_a_call_that_waited_past_its_deadline_for_a_thread_is_not_begun(policy: Policy, tokens: Tokens) -> None:
    server = RpcServer([bound(policy)], listen="127.0.0.1:0", verifier=None, limits=ServerLimits(threads=1))
    server.start()
    begun = []

    def note(request: policy_pb2.GetRunRequest, _: object) -> policy_pb2.GetRunResponse:
        begun.append(request.run_id)
        return policy_pb2.GetRunResponse()

    policy.get = note
    with grpc.insecure_channel(server.address) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        slow = stub.PauseRun.future(policy_pb2.PauseRunRequest(run_id="r1"))
        assert policy.entered.wait(60)
        assert refused(lambda: stub.GetRun(GET, timeout=0.2))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        # The server counts from when the request arrived, so that its deadline comes a little after the caller's.
        time.sleep(0.5)
        policy.release.set()
        slow.result(timeout=60)
        assert stub.GetRun(policy_pb2.GetRunRequest(run_id="r2")) is not None
    server.stop(grace_s=0)
    assert begun == ["r2"]


def test_a_stream_is_closed_when_its_watcher_leaves(stub: policy_pb2_grpc.PolicyServiceStub, policy: Policy) -> None:
    watching = stub.WatchRun(policy_pb2.WatchRunRequest(run_id="r1"), metadata=token())
    assert next(watching).run.run_id == "r1"
    watching.cancel()
    assert policy.stream_closed.wait(60)


def test_a_stream_ends_when_its_token_is_revoked(policy: Policy, tokens: Tokens) -> None:
    limits = ServerLimits(verify_streams_every_s=0.05)
    server = RpcServer([bound(policy)], listen="127.0.0.1:0", verifier=tokens, limits=limits)
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        watching = stub.WatchRun(policy_pb2.WatchRunRequest(run_id="r1"), metadata=token(), timeout=30)
        assert next(watching).run.run_id == "r1"
        tokens.is_revoked = True
        code, reason = refused(lambda: next(watching))
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert reason.startswith("the token is not known")
        assert policy.stream_closed.wait(5)
    server.stop(grace_s=0)


def test_a_drain_lets_calls_finish_refuses_new_ones_and_ends_streams(
    server: RpcServer, stub: policy_pb2_grpc.PolicyServiceStub, policy: Policy
) -> None:
    watching = stub.WatchRun(policy_pb2.WatchRunRequest(run_id="r1"), metadata=token())
    next(watching)
    policy.entered.clear()
    pausing = stub.PauseRun.future(policy_pb2.PauseRunRequest(run_id="r1"), metadata=token())
    assert policy.entered.wait(60)
    server.begin_drain()
    assert refused(lambda: next(watching)) == (grpc.StatusCode.UNAVAILABLE, "this server is stopping; call again")
    assert refused(lambda: stub.GetRun(GET, metadata=token()))[0] is grpc.StatusCode.UNAVAILABLE
    stopping = threading.Thread(target=server.stop, kwargs={"grace_s": 5})
    stopping.start()
    policy.release.set()
    assert pausing.result(timeout=60) is not None
    stopping.join(60)
    assert not stopping.is_alive()
    assert policy.changed == ["r1"]


def test_a_call_that_hangs_holds_a_stop_up_for_its_grace_and_no_longer(
    server: RpcServer, stub: policy_pb2_grpc.PolicyServiceStub, policy: Policy
) -> None:
    hanging = stub.PauseRun.future(policy_pb2.PauseRunRequest(run_id="r1"), metadata=token())
    assert policy.entered.wait(60)
    server.stop(grace_s=0.3)
    assert refused(hanging.result)[0] in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    policy.release.set()
    time.sleep(0.1)
    assert policy.changed == []


def test_more_streams_than_are_served_are_refused_with_a_reason(policy: Policy, tokens: Tokens) -> None:
    limits = ServerLimits(streams=1)
    server = RpcServer([bound(policy)], listen="127.0.0.1:0", verifier=None, limits=limits)
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        first = stub.WatchRun(policy_pb2.WatchRunRequest(run_id="r1"))
        next(first)
        second = stub.WatchRun(policy_pb2.WatchRunRequest(run_id="r2"))
        assert refused(lambda: next(second)) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "1 streams are open, no more are served; try again later",
        )
        first.cancel()
        assert policy.stream_closed.wait(60)
        third = stub.WatchRun(policy_pb2.WatchRunRequest(run_id="r3"))
        assert next(third).run.run_id == "r3"
        third.cancel()
    server.stop(grace_s=0)


def test_a_taken_port_is_named(server: RpcServer, policy: Policy, tokens: Tokens) -> None:
    second = RpcServer([bound(policy)], listen=server.address, verifier=tokens)
    with pytest.raises(ListenFailed, match=rf"cannot listen on {server.address}: it is taken.*set server\.listen"):
        second.start()
    second.stop(grace_s=0)


def test_reflection_lists_the_services_without_a_token(channel: grpc.Channel) -> None:
    assert set(ProtoReflectionDescriptorDatabase(channel).get_services()) == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def test_one_line_is_logged_per_call_without_what_was_asked(
    stub: policy_pb2_grpc.PolicyServiceStub, logged: Callable[[], list[dict[str, object]]]
) -> None:
    stub.GetRun(GET, metadata=token())
    give_up_at = time.monotonic() + 60
    while not logged() and time.monotonic() < give_up_at:
        time.sleep(0.01)
    (line,) = logged()
    assert line.pop("call_id")
    assert isinstance(line.pop("duration_ms"), float)
    del line["timestamp"]
    assert line == {
        "event": "call handled",
        "level": "info",
        "service": "policy",
        "method": f"/{SERVICE}/GetRun",
        "code": "OK",
        "tenant": "acme",
        "subject": "laptop",
    }


def test_a_client_goes_on_when_its_server_comes_back_on_the_same_port(policy: Policy, tokens: Tokens) -> None:
    first = RpcServer([bound(policy)], listen="127.0.0.1:0", verifier=tokens)
    first.start()
    with grpc.insecure_channel(first.address) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        stub.GetRun(GET, metadata=token())
        first.stop(grace_s=0)
        second = RpcServer([bound(policy)], listen=first.address, verifier=tokens)
        second.start()
        assert stub.GetRun(GET, metadata=token(), wait_for_ready=True, timeout=20).run.run_id == "r1"
        second.stop(grace_s=0)
