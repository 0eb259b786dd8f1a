"""Health by face: what is away darkens the services that need it, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from baldistill.errors import DependencyUnavailable
from baldistill.rpc.health import HealthCheck, HealthFaces
from baldistill.rpc.server import RpcServer
from tests.integration.rpc.conftest import SERVICE, Policy, Tokens, bound

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Dependency:
    """Something that can be away, or hang."""

    def __init__(self) -> None:
        self.is_away = False
        self.hangs = threading.Event()
        self.hangs.set()

    def probe(self) -> None:
        self.hangs.wait(10)
        if self.is_away:
            raise DependencyUnavailable(dependency="database", reason="refused")


@pytest.fixture
def database() -> Dependency:
    return Dependency()


@pytest.fixture
def faces(database: Dependency) -> HealthFaces:
    needs = {
        SERVICE: [HealthCheck(name="database", probe=database.probe)],
        "baldistill.v1.Other": [HealthCheck(name="store", probe=lambda: None)],
    }
    return HealthFaces(needs, every_s=0.05, timeout_s=0.3)


@pytest.fixture
def server(policy: Policy, tokens: Tokens, faces: HealthFaces) -> Iterator[RpcServer]:
    server = RpcServer([bound(policy)], listen="127.0.0.1:0", verifier=tokens, health=faces)
    server.start()
    yield server
    server.stop(grace_s=0)


@pytest.fixture
def health(channel: grpc.Channel) -> health_pb2_grpc.HealthStub:
    return health_pb2_grpc.HealthStub(channel)


def status(health: health_pb2_grpc.HealthStub, service: str) -> int:
    return int(health.Check(health_pb2.HealthCheckRequest(service=service)).status)


def becomes(health: health_pb2_grpc.HealthStub, service: str, wanted: int) -> bool:
    give_up_at = time.monotonic() + 60
    while status(health, service) != wanted:
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.02)
    return True


def test_a_service_is_dark_while_what_it_needs_is_away_and_others_are_not(
    health: health_pb2_grpc.HealthStub, database: Dependency, faces: HealthFaces
) -> None:
    assert becomes(health, SERVICE, SERVING)
    assert becomes(health, "baldistill.v1.Other", SERVING)
    database.is_away = True
    assert becomes(health, SERVICE, NOT_SERVING)
    assert faces.all_away() == {SERVICE: {"database": "database is not reachable: refused"}}
    assert status(health, "baldistill.v1.Other") == SERVING
    assert status(health, "") == SERVING
    database.is_away = False
    assert becomes(health, SERVICE, SERVING)


def test_a_probe_that_hangs_is_a_failure_while_it_lasts(
    health: health_pb2_grpc.HealthStub, database: Dependency, faces: HealthFaces
) -> None:
    assert becomes(health, SERVICE, SERVING)
    database.hangs.clear()
    assert becomes(health, SERVICE, NOT_SERVING)
    assert faces.away(SERVICE) == {"database": "no answer within 0.3 s"}
    database.hangs.set()
    assert becomes(health, SERVICE, SERVING)


def test_a_watcher_of_health_is_told_of_changes(health: health_pb2_grpc.HealthStub, database: Dependency) -> None:
    assert becomes(health, SERVICE, SERVING)
    changes = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    assert next(changes).status == SERVING
    database.is_away = True
    assert next(changes).status == NOT_SERVING
    changes.cancel()


def test_a_drain_darkens_every_face_for_good(server: RpcServer, health: health_pb2_grpc.HealthStub) -> None:
    assert becomes(health, SERVICE, SERVING)
    server.begin_drain()
    assert [status(health, service) for service in ("", SERVICE, "baldistill.v1.Other")] == [NOT_SERVING] * 3
    time.sleep(0.3)
    assert status(health, SERVICE) == NOT_SERVING


def test_a_service_that_is_not_here_is_not_found(health: health_pb2_grpc.HealthStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        status(health, "baldistill.v1.Nobody")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
