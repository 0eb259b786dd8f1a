"""The services as processes, while everything but their database and store is away: they live, and say what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from baldistill.errors import DependencyUnavailable
from baldistill.local_stack.server_process import free_port
from baldistill.rpc.client import RpcClient
from baldistill.testing.processes import ModuleProcess
from baldistill.v1.selector_pb2 import ExplainSelectionRequest
from baldistill.v1.selector_pb2_grpc import SelectorServiceStub
from baldistill.v1.teacher_gateway_pb2 import BudgetPath, GetBudgetRequest
from baldistill.v1.teacher_gateway_pb2_grpc import TeacherGatewayServiceStub
from baldistill.v1.trainer_pb2 import ListStudentsRequest
from baldistill.v1.trainer_pb2_grpc import TrainerServiceStub

FACES = {
    "services.trainer": "baldistill.v1.TrainerService",
    "services.selector": "baldistill.v1.SelectorService",
    "services.teacher_gateway": "baldistill.v1.TeacherGatewayService",
}


@contextmanager
def running(module: str, folder: Path) -> Iterator[tuple[ModuleProcess, str]]:
    """Run a service over a local folder and SQLite; nobody listens where it looks for its broker and for policy."""
    port = free_port()
    environment = {
        "BALDISTILL_DATABASE__URL": f"sqlite:///{folder / 'state.db'}",
        "BALDISTILL_ARTIFACTS_FOLDER": str(folder / "artifacts"),
        "BALDISTILL_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "BALDISTILL_POLICY__ENDPOINT": f"127.0.0.1:{free_port()}",
        "BALDISTILL_SERVER__LISTEN": f"127.0.0.1:{port}",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    with ModuleProcess(module, folder=folder / "process", environment=environment) as process:
        process.wait_until(lambda: '"serves"' in (folder / "process" / "stderr").read_text())
        yield process, f"127.0.0.1:{port}"


def asked(module: str, client: RpcClient) -> object:
    """Ask one question of a service."""
    if module == "services.trainer":
        return TrainerServiceStub(client.channel).ListStudents(ListStudentsRequest(tenant="acme"))
    if module == "services.selector":
        return SelectorServiceStub(client.channel).ExplainSelection(ExplainSelectionRequest(tenant="acme", stage=1))
    return TeacherGatewayServiceStub(client.channel).GetBudget(GetBudgetRequest(path=BudgetPath(tenant="acme")))


@pytest.mark.parametrize("module", FACES)
def test_a_service_lives_without_broker_and_policy_lets_nobody_in_and_ends_politely(
    module: str, tmp_path: Path
) -> None:
    with running(module, tmp_path) as (process, address), ExitStack() as exit_stack:
        channel = exit_stack.enter_context(grpc.insecure_channel(address))
        health = health_pb2_grpc.HealthStub(channel)
        for face in ("", FACES[module]):
            process.wait_until(lambda face=face: is_serving(health, face))  # type: ignore[misc]
        client = exit_stack.enter_context(RpcClient(endpoint=address, token="a-token", deadline_s=8))
        with pytest.raises(DependencyUnavailable):
            asked(module, client)
        os.killpg(process.pid, signal.SIGTERM)
        ended = process.wait(timeout_s=60)
        assert ended.code == 0, ended.err


def test_a_worker_lives_without_broker_and_ends_politely(tmp_path: Path) -> None:
    with running("services.selector.worker", tmp_path) as (process, _):
        os.killpg(process.pid, signal.SIGTERM)
        ended = process.wait(timeout_s=60)
        assert ended.code == 0, ended.err


@pytest.mark.parametrize("module", [f"{name}.__main__" for name in FACES])
def test_the_always_on_processes_know_no_torch(module: str) -> None:
    script = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    heavy = {"torch", "transformers", "peft", "sklearn"} & set(json.loads(printed))
    assert heavy == set()


def is_serving(health: health_pb2_grpc.HealthStub, face: str) -> bool:
    try:
        answer = health.Check(health_pb2.HealthCheckRequest(service=face), timeout=5)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
