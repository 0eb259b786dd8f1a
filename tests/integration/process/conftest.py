"""A small service of its own, started as services are: a module, an environment, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

# One consumer over the in-process bus; what it does with its one event is told by TEST_MODE.
SERVICE = """
import logging, os, sys, threading, time
from pathlib import Path
from baldistill.artifacts.ports import ArtifactRef
from baldistill.bus.in_process import InProcessBus
from baldistill.errors import DependencyUnavailable, Unauthenticated
from baldistill.events.facts import StagePlanned
from baldistill.events.publishing import FactPublisher
from baldistill.rpc.health import HealthCheck, HealthFaces
from baldistill.rpc.routes import BoundService
from baldistill.runtime.consumer import ConsumerLoop
from baldistill.runtime.handlers import ConsumerGroup
from baldistill.runtime.process import Background, Serving
from baldistill.runtime.process_main import run_process
from baldistill.settings import ProcessSettings
from baldistill.v1 import policy_pb2_grpc
import structlog

MODE, FOLDER = os.environ["TEST_MODE"], Path(os.environ["TEST_FOLDER"])
REF = ArtifactRef(key="k", sha256="s", size_bytes=1)
NAME = "baldistill.v1.PolicyService"

def on_stage_planned(fact):
    structlog.get_logger().info("works")
    logging.getLogger("kafka.client").warning("no connection to %s", "127.0.0.1")
    (FOLDER / "begun").touch()
    time.sleep(60 if MODE == "hangs" else 1)
    (FOLDER / "finished").touch()
    return []

def dies(stop):
    if MODE == "dies":
        raise ValueError("a bug")
    stop.wait()

class Nobody:
    def verify(self, token):
        raise Unauthenticated("the token is not known")

def store():
    if MODE == "waits" and not (FOLDER / "there").exists():
        raise DependencyUnavailable(dependency="store", reason="refused")
    return "the store"

def probe():
    if (FOLDER / "away").exists():
        raise DependencyUnavailable(dependency="store", reason="refused")

def compose(settings, process):
    process.wait_for("store", store)
    bus = InProcessBus()
    process.stack.callback(lambda: (FOLDER / "closed").touch())
    FactPublisher(bus, source="test")(
        [StagePlanned(tenant="acme", run_id="r1", epoch=1, stage=2, spec=REF, plan=REF, previous_student=None)]
    )
    loop = ConsumerLoop(
        bus=bus, group=ConsumerGroup(name="selector", handlers={StagePlanned: on_stage_planned}),
        run_states=None, counter=process.deliveries, watch=process.deliveries,
    )
    return Serving(
        health=HealthFaces({NAME: [HealthCheck(name="store", probe=probe)]}, every_s=0.05),
        background=[Background(name="consumer", run=loop.run), Background(name="watcher", run=dies)],
        services=[
            BoundService(
                name=NAME, servicer=policy_pb2_grpc.PolicyServiceServicer(),
                add=policy_pb2_grpc.add_PolicyServiceServicer_to_server,
            )
        ],
        verifier=Nobody(),
    )

run_process("policy", ProcessSettings, compose)
"""


class Service:
    """The small service as a process. folder: what it leaves."""

    def __init__(self, folder: Path, *, mode: str, environment: Mapping[str, str]) -> None:
        self.folder = folder
        script = folder / "service.py"
        script.write_text(SERVICE)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BALDISTILL_")}
        told = {"BALDISTILL_DATABASE__URL": "sqlite://", "TEST_MODE": mode, "TEST_FOLDER": str(folder)}
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(script)], stderr=log, env=kept | told | dict(environment)
            )

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]

    def text(self) -> str:
        return (self.folder / "log").read_text()

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == event]

    def wait_for(self, reached: Callable[[], object], *, timeout_s: float = 60) -> None:
        give_up_at = time.monotonic() + timeout_s
        while not reached():
            assert self._process.poll() is None, self.text()
            assert time.monotonic() < give_up_at, self.text()
            time.sleep(0.02)

    def serves(self) -> bool:
        return bool(self.logged("serves"))

    def get(self, path: str) -> tuple[int, str]:
        (line,) = self.logged("serves")
        try:
            with urllib.request.urlopen(f"http://{line['metrics']}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    @property
    def rpc_address(self) -> str:
        (line,) = self.logged("serves")
        return str(line["rpc"])

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, *, timeout_s: float = 30) -> int:
        return self._process.wait(timeout_s)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    services = []

    def start(mode: str = "works", **environment: str) -> Service:
        services.append(Service(tmp_path, mode=mode, environment=environment))
        return services[-1]

    yield start
    for service in services:
        service.close()
