"""The client's side: failures are our errors with their exit codes, and what is away is waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from baldistill.errors import (
    AccessDenied,
    AlreadyThere,
    ArtifactCorrupt,
    ArtifactMissing,
    BalDistillError,
    DependencyUnavailable,
    InvalidInput,
    LimitReached,
    NotAllowedNow,
    NotKnown,
    PermanentError,
    StorageFull,
    Unauthenticated,
)
from baldistill.local_stack.server_process import free_port
from baldistill.rpc.authentication import CachingVerifier
from baldistill.rpc.callers import Caller
from baldistill.rpc.client import RpcClient
from baldistill.rpc.remote_verifier import RemoteTokenVerifier
from baldistill.rpc.server import RpcServer
from baldistill.v1 import policy_pb2, policy_pb2_grpc, trainer_pb2, trainer_pb2_grpc
from tests.integration.rpc.conftest import Policy, Tokens, bound

GET = policy_pb2.GetRunRequest(tenant="acme", run_id="r1")


@pytest.fixture
def client(server: RpcServer) -> Iterator[RpcClient]:
    with RpcClient(endpoint=server.address, token="secret-of-acme") as client:
        yield client


@pytest.fixture
def stub(client: RpcClient) -> policy_pb2_grpc.PolicyServiceStub:
    return policy_pb2_grpc.PolicyServiceStub(client.channel)


def test_the_token_is_sent_with_each_call(stub: policy_pb2_grpc.PolicyServiceStub) -> None:
    assert stub.GetRun(GET).run.reason == "laptop"
    assert stub.GetRun.future(GET).result().run.reason == "laptop"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidInput("bad", field="spec"), InvalidInput),
        (NotKnown(kind="run", name="r9", remedy="see `baldistill runs list`"), NotKnown),
        (AlreadyThere(kind="run", name="r1", difference="stages"), AlreadyThere),
        (NotAllowedNow("it is final"), NotAllowedNow),
        (LimitReached("2 runs at once"), LimitReached),
        (Unauthenticated(), Unauthenticated),
        (AccessDenied(subject="laptop", tenant="x"), AccessDenied),
        (ArtifactMissing(key="k"), NotKnown),
        (ArtifactCorrupt(key="k", expected_sha256="a" * 64, actual_sha256="b" * 64), ArtifactCorrupt),
    ],
)
def test_an_error_crosses_the_wire_with_its_text_and_exit_code(
    stub: policy_pb2_grpc.PolicyServiceStub, policy: Policy, error: BalDistillError, kind: type[BalDistillError]
) -> None:
    def fail(*_: object) -> policy_pb2.GetRunResponse:
        raise error

    policy.get = fail
    with pytest.raises(kind) as caught:
        stub.GetRun(GET)
    assert str(caught.value) == str(error)
    assert caught.value.exit_code == error.exit_code


@pytest.mark.parametrize(
    "error", [DependencyUnavailable(dependency="database", reason="refused"), StorageFull(path=Path("/data"))]
)
def test_what_a_server_lacks_for_a_while_is_a_dependency_of_ours_that_is_away(
    client: RpcClient, stub: policy_pb2_grpc.PolicyServiceStub, policy: Policy, error: Exception
) -> None:
    def fail(*_: object) -> policy_pb2.GetRunResponse:
        raise error

    policy.get = fail
    with pytest.raises(DependencyUnavailable) as caught:
        stub.GetRun(GET)
    assert str(caught.value) == f"{client.endpoint} cannot answer now: {error}"


def test_a_bug_of_the_server_names_the_endpoint(
    client: RpcClient, stub: policy_pb2_grpc.PolicyServiceStub, policy: Policy
) -> None:
    def fail(*_: object) -> policy_pb2.GetRunResponse:
        raise ValueError("secret")

    policy.get = fail
    with pytest.raises(BalDistillError, match=rf"{client.endpoint} failed: an internal error.*call_id") as caught:
        stub.GetRun(GET)
    assert caught.value.exit_code == 1


def test_nobody_at_the_endpoint_is_named_with_what_to_do() -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    with RpcClient(endpoint=endpoint) as client, pytest.raises(DependencyUnavailable) as caught:
        policy_pb2_grpc.PolicyServiceStub(client.channel).ResumeRun(policy_pb2.ResumeRunRequest(), timeout=5)
    assert str(caught.value).startswith(f"{endpoint} is not reachable: ")
    assert "BALDISTILL_ENDPOINT" in str(caught.value)
    assert caught.value.exit_code == 69


def test_no_answer_in_time_says_that_it_may_have_been_done(
    stub: policy_pb2_grpc.PolicyServiceStub, policy: Policy
) -> None:
    with pytest.raises(DependencyUnavailable, match="did not answer in time; what was asked may have been done"):
        stub.PauseRun(policy_pb2.PauseRunRequest(run_id="r1"), timeout=0.2)
    policy.release.set()


def test_a_method_that_the_server_does_not_have_fails_for_good(client: RpcClient) -> None:
    with pytest.raises(PermanentError, match=r"there is no method /baldistill\.v1\.TrainerService/Generate here"):
        trainer_pb2_grpc.TrainerServiceStub(client.channel).Generate(trainer_pb2.GenerateRequest())


def test_a_streams_failure_is_ours_as_well(stub: policy_pb2_grpc.PolicyServiceStub, server: RpcServer) -> None:
    watching = stub.WatchRun(policy_pb2.WatchRunRequest(run_id="r1"))
    assert next(watching).run.run_id == "r1"
    server.begin_drain()
    with pytest.raises(DependencyUnavailable, match="this server is stopping; call again"):
        next(watching)


def test_an_idempotent_call_waits_for_a_server_that_restarts(policy: Policy, tokens: Tokens) -> None:
    port = free_port()
    server = RpcServer([bound(policy)], listen=f"127.0.0.1:{port}", verifier=tokens)
    late = threading.Timer(0.5, server.start)
    late.start()
    with RpcClient(endpoint=f"127.0.0.1:{port}", token="secret-of-acme") as client:
        assert policy_pb2_grpc.PolicyServiceStub(client.channel).GetRun(GET).run.run_id == "r1"
    server.stop(grace_s=0)


class Verifying(Policy):
    def VerifyToken(self, request: policy_pb2.VerifyTokenRequest, context: object) -> policy_pb2.VerifyTokenResponse:
        if request.token != "secret-of-acme":
            raise Unauthenticated("the token is not known")
        return policy_pb2.VerifyTokenResponse(tenant="acme", subject="ci", is_admin=True)


@pytest.fixture
def verifying(tokens: Tokens) -> Iterator[RpcServer]:
    server = RpcServer([bound(Verifying())], listen="127.0.0.1:0", verifier=tokens)  # type: ignore[abstract]
    server.start()
    yield server
    server.stop(grace_s=0)


def test_policy_is_asked_whom_a_token_stands_for_without_a_token(verifying: RpcServer) -> None:
    with RpcClient(endpoint=verifying.address) as client:
        verifier = RemoteTokenVerifier(client)
        assert verifier.verify("secret-of-acme") == Caller(tenant="acme", subject="ci", is_admin=True)
        with pytest.raises(Unauthenticated, match="the token is not known"):
            verifier.verify("guessed")


def test_while_policy_is_away_known_callers_are_served_and_new_ones_are_not(
    verifying: RpcServer, policy: Policy
) -> None:
    with RpcClient(endpoint=verifying.address) as client:
        verifier = CachingVerifier(RemoteTokenVerifier(client))
        server = RpcServer([bound(policy)], listen="127.0.0.1:0", verifier=verifier)
        server.start()
        with RpcClient(endpoint=server.address, token="secret-of-acme") as known:
            policy_pb2_grpc.PolicyServiceStub(known.channel).GetRun(GET)
            verifying.stop(grace_s=0)
            assert policy_pb2_grpc.PolicyServiceStub(known.channel).GetRun(GET).run.run_id == "r1"
        with RpcClient(endpoint=server.address, token="another") as unknown:
            with pytest.raises(DependencyUnavailable, match="tokens cannot be verified now; try again") as caught:
                policy_pb2_grpc.PolicyServiceStub(unknown.channel).GetRun(GET, timeout=20)
            assert verifying.address not in str(caught.value)
        server.stop(grace_s=0)


@pytest.mark.parametrize("endpoint", ["", "localhost", "ftp://h:1", "http://h", "http://h:1/path", "h:notaport"])
def test_a_bad_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidInput, match="host:port"):
        RpcClient(endpoint=endpoint)


def test_a_missing_ca_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"absent\.pem: the CA cannot be read"):
        RpcClient(endpoint="localhost:1", ca=tmp_path / "absent.pem")
