"""What an orchestrator sees of a service: its settings' errors, its health, its drain, its exit code."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.process.conftest import Service

Start = Callable[..., Service]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_delivery_at_hand_finish(start: Start, number: signal.Signals) -> None:
    service = start()
    service.wait_for((service.folder / "begun").exists)
    service.send(number)
    assert service.wait() == 0
    assert (service.folder / "finished").exists()
    assert (service.folder / "closed").exists()
    assert service.logged("ends")[0]["code"] == 0


def test_every_line_logged_by_a_handler_names_tenant_run_stage_and_event(start: Start) -> None:
    service = start()
    service.wait_for(lambda: service.logged("works"))
    (line,) = service.logged("works")
    assert (line["service"], line["tenant"], line["run_id"], line["stage"]) == ("policy", "acme", "r1", 2)
    assert line["topic"] == "baldistill.stage-planned.v1"
    assert line["event_id"]


def test_what_libraries_log_is_a_line_of_json_as_well(start: Start) -> None:
    service = start()
    service.wait_for(lambda: service.logged("no connection to 127.0.0.1"))
    (line,) = service.logged("no connection to 127.0.0.1")
    assert (line["logger"], line["level"], line["service"], line["run_id"]) == (
        "kafka.client",
        "warning",
        "policy",
        "r1",
    )


def test_what_is_away_makes_it_unready_but_not_dead(start: Start) -> None:
    service = start()
    service.wait_for(service.serves)
    service.wait_for(lambda: [line for line in service.logged("health changed") if line["serving"]])
    assert service.get("/readyz")[0] == 200
    (service.folder / "away").touch()
    service.wait_for(lambda: service.get("/readyz")[0] == 503)
    assert json.loads(service.get("/readyz")[1]) == {
        "ready": False,
        "lacking": {"baldistill.v1.PolicyService": {"store": "store is not reachable: refused"}},
    }
    assert service.get("/healthz") == (200, "ok\n")
    service.wait_for(lambda: [line for line in service.logged("health changed") if not line["serving"]])
    with grpc.insecure_channel(service.rpc_address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        face = health.Check(health_pb2.HealthCheckRequest(service="baldistill.v1.PolicyService"))
        alive = health.Check(health_pb2.HealthCheckRequest(service=""))
    assert (face.status, alive.status) == (
        health_pb2.HealthCheckResponse.NOT_SERVING,
        health_pb2.HealthCheckResponse.SERVING,
    )


def test_its_metrics_tell_of_deliveries_calls_and_dependencies(start: Start) -> None:
    service = start()
    service.wait_for((service.folder / "finished").exists)
    with grpc.insecure_channel(service.rpc_address) as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=""))
    wanted = (
        'baldistill_process_build_info{service="policy",version="',
        'baldistill_consumer_settled_deliveries_total{group="selector",outcome="handled",topic="baldistill.stage-planned.v1"} 1.0',
        'baldistill_consumer_handling_duration_seconds_count{group="selector",topic="baldistill.stage-planned.v1"} 1.0',
        'baldistill_rpc_handled_calls_total{code="OK",method="/grpc.health.v1.Health/Check"} 1.0',
        'baldistill_process_dependency_up{check="store",face="baldistill.v1.PolicyService"} 1.0',
        "process_resident_memory_bytes",
    )
    service.wait_for(lambda: all(text in service.get("/metrics")[1] for text in wanted), timeout_s=10)
    assert service.get("/other")[0] == 404


def test_a_thread_that_dies_ends_the_process_with_a_failure(start: Start) -> None:
    service = start("dies")
    assert service.wait() == 1
    (line,) = service.logged("thread failed")
    assert (line["thread"], line["error"]) == ("watcher", "ValueError")
    assert (service.folder / "closed").exists()


def test_a_handler_that_hangs_does_not_keep_the_process(start: Start) -> None:
    service = start("hangs", BALDISTILL_SERVER__DRAIN_GRACE_S="0.5")
    service.wait_for((service.folder / "begun").exists)
    service.send(signal.SIGTERM)
    assert service.wait() == 1
    assert service.logged("threads did not end in time")[0]["threads"] == ["consumer"]


def test_it_waits_for_what_it_needs_and_says_so(start: Start) -> None:
    service = start("waits")
    service.wait_for(lambda: service.logged("waits for a dependency"))
    assert service.logged("waits for a dependency")[0]["reason"] == "store is not reachable: refused"
    (service.folder / "there").touch()
    service.wait_for(service.serves)


def test_it_stops_while_it_waits(start: Start) -> None:
    service = start("waits")
    service.wait_for(lambda: service.logged("waits for a dependency"))
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    assert not service.serves()


def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    service = start("hangs")
    service.wait_for((service.folder / "begun").exists)
    service.send(signal.SIGTERM)
    service.wait_for(lambda: service.logged("drains"))
    service.send(signal.SIGTERM)
    assert service.wait(timeout_s=40) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"BALDISTILL_SERVER__LISTEN": "50051"}, "server.listen"),
        ({"BALDISTILL_TELEMETRY__LOG_LEVEL": "LOUD"}, "BALDISTILL_TELEMETRY__LOG_LEVEL: Input should be 'DEBUG'"),
        ({"BALDISTILL_SERVER__LISTENS": "x"}, "BALDISTILL_SERVER__LISTENS: Extra inputs are not permitted"),
        ({"BALDISTILL_DATABASE__URL": ""}, "BALDISTILL_DATABASE__URL must be set"),
        ({"BALDISTILL_SERVER__TLS_KEY": "/k"}, "tls_certificate and tls_key are set together"),
    ],
)
def test_a_wrong_setting_is_named(start: Start, environment: dict[str, str], says: str) -> None:
    service = start(**environment)
    assert service.wait() in {65, 78}
    assert says in service.text()
    assert "Traceback" not in service.text()
