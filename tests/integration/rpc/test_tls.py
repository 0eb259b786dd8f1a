"""TLS over the loopback, with certificates that are made here and replaced while the server runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from baldistill.errors import InvalidInput
from baldistill.rpc.server import RpcServer
from baldistill.rpc.tls_files import TlsFiles
from baldistill.testing.certificates import Authority
from baldistill.v1 import policy_pb2, policy_pb2_grpc
from tests.integration.rpc.conftest import Policy, Tokens, bound, token

GET = policy_pb2.GetRunRequest(tenant="acme", run_id="r1")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "first")


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> TlsFiles:
    certificate, key = authority.issue("server")
    files = TlsFiles(certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key")
    files.certificate.write_bytes(certificate.read_bytes())
    files.key.write_bytes(key.read_bytes())
    return files


@pytest.fixture
def server(policy: Policy, tokens: Tokens, files: TlsFiles) -> Iterator[RpcServer]:
    server = RpcServer([bound(policy)], listen="127.0.0.1:0", verifier=tokens, tls=files)
    server.start()
    yield server
    server.stop(grace_s=0)


def ask(server: RpcServer, *, ca: Path, client: tuple[Path, Path] | None = None) -> str:
    credentials = grpc.ssl_channel_credentials(
        ca.read_bytes(),
        private_key=client[1].read_bytes() if client else None,
        certificate_chain=client[0].read_bytes() if client else None,
    )
    with grpc.secure_channel(f"127.0.0.1:{server.port}", credentials) as channel:
        return policy_pb2_grpc.PolicyServiceStub(channel).GetRun(GET, metadata=token(), timeout=10).run.run_id


def code_of(server: RpcServer, *, ca: Path) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        ask(server, ca=ca)
    code: grpc.StatusCode = caught.value.code()
    return code


def test_calls_are_answered_over_tls_and_not_without_it(server: RpcServer, authority: Authority) -> None:
    assert ask(server, ca=authority.certificate) == "r1"
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        policy_pb2_grpc.PolicyServiceStub(channel).GetRun(GET, metadata=token(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_replaced_certificate_is_served_without_a_restart(
    server: RpcServer, authority: Authority, files: TlsFiles, tmp_path: Path
) -> None:
    second = Authority(tmp_path, "second")
    assert code_of(server, ca=second.certificate) is grpc.StatusCode.UNAVAILABLE
    certificate, key = second.issue("server")
    key.replace(files.key)
    certificate.replace(files.certificate)
    assert ask(server, ca=second.certificate) == "r1"


def test_a_bad_replacement_leaves_the_old_certificate_in_place(
    server: RpcServer, authority: Authority, files: TlsFiles
) -> None:
    files.certificate.write_text("not a certificate")
    assert ask(server, ca=authority.certificate) == "r1"
    files.certificate.unlink()
    assert ask(server, ca=authority.certificate) == "r1"


def test_with_a_client_ca_callers_need_a_certificate_of_it(
    policy: Policy, tokens: Tokens, files: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    clients = Authority(tmp_path, "clients")
    both = TlsFiles(certificate=files.certificate, key=files.key, client_ca=clients.certificate)
    server = RpcServer([bound(policy)], listen="127.0.0.1:0", verifier=tokens, tls=both)
    server.start()
    try:
        assert code_of(server, ca=authority.certificate) is grpc.StatusCode.UNAVAILABLE
        assert ask(server, ca=authority.certificate, client=clients.issue("laptop")) == "r1"
    finally:
        server.stop(grace_s=0)


def test_missing_files_are_named_at_the_start(policy: Policy, tokens: Tokens, tmp_path: Path) -> None:
    absent = TlsFiles(certificate=tmp_path / "absent.crt", key=tmp_path / "absent.key")
    server = RpcServer([bound(policy)], listen="127.0.0.1:0", verifier=tokens, tls=absent)
    with pytest.raises(InvalidInput, match=r"absent\.crt: it cannot be read: No such file"):
        server.start()
