"""What every service process does: told by its environment, it waits for what it needs, works, and drains on SIGTERM.

def main() -> None:                                 # services/policy/__main__.py
run_process("policy", PolicySettings, compose)

def compose(settings: PolicySettings, process: Process) -> Serving: ...
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol, TypeVar

import structlog

from baldistill.errors import BalDistillError, DependencyUnavailable
from baldistill.rpc.authentication import TokenVerifier
from baldistill.rpc.health import HealthFaces
from baldistill.rpc.limits import ServerLimits
from baldistill.rpc.observation import CallTracer, Untraced
from baldistill.rpc.routes import BoundService
from baldistill.rpc.server import RpcServer
from baldistill.rpc.status_codes import STATUS_CODES, StatusTable
from baldistill.settings import ProcessSettings
from baldistill.telemetry.metrics_page import MetricsPage
from baldistill.telemetry.observers import CountedCalls, report_dependencies
from baldistill.telemetry.process_metrics import ProcessMetrics
from baldistill.telemetry.watched_deliveries import WatchedDeliveries

if TYPE_CHECKING:
    from baldistill.telemetry.tracing import Tracing

_T = TypeVar("_T")

# How soon a signal is noticed. A handler may not touch an event: the thread it interrupts may hold its lock.
_LOOK_EVERY_S = 0.2
_WAIT_EVERY_S = 1.0
_SAY_EVERY_S = 10.0

_VERSION = version("baldistill")

_log = structlog.get_logger(__name__)


class Stopped(Exception):
    """The process was told to stop before it began."""


class ThreadEnded(BalDistillError):
    """A thread that works as long as the process lives came to an end."""

    def __init__(self, *, name: str) -> None:
        super().__init__(f"thread '{name}' ended by itself")


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """Work in a thread of its own until `stop` is set: a consumer loop, a watcher, a sweeper. Raising ends the process."""

    name: str
    run: Callable[[threading.Event], None]


class Face(Protocol):
    """What answers callers beside gRPC, in threads of its own."""

    @property
    def address(self) -> str:
        """host:port, once it is started."""

    def start(self) -> None:
        """Listen. Raises ListenFailed."""

    def begin_drain(self) -> None:
        """Answer nothing new. Idempotent."""

    def stop(self, *, grace_s: float) -> None:
        """Let what is under way finish within `grace_s` seconds, then close. Idempotent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What a process does. services: empty for a worker, which has no gRPC face. verifier: who its callers are.

    http: a face beside gRPC's, where there is one.
    """

    health: HealthFaces
    background: Sequence[Background] = ()
    services: Sequence[BoundService] = ()
    verifier: TokenVerifier | None = None
    statuses: StatusTable = STATUS_CODES
    limits: ServerLimits = field(default_factory=ServerLimits)
    http: Face | None = None


class Process:
    """What a composition is handed. stack: closed at the end, in reverse.   metrics, deliveries: for what it builds."""

    def __init__(self, *, service: str, settings: ProcessSettings) -> None:
        self.service = service
        self.stack = ExitStack()
        self.metrics = ProcessMetrics(service=service, version=_VERSION)
        tracing = _open_tracing(settings, service=service)
        if tracing is not None:
            self.stack.callback(tracing.close)
        self._tracing = tracing
        self.deliveries = WatchedDeliveries(self.metrics, within=tracing)
        self._settings = settings
        self._signal: int | None = None
        self._failure: BaseException | None = None
        self._failed = threading.Event()
        self._stop = threading.Event()

    @property
    def tracer(self) -> CallTracer:
        """What records the calls of a face."""
        return self._tracing or Untraced()

    @property
    def is_stopping(self) -> bool:
        return self._signal is not None or self._failure is not None

    def wait_for(self, name: str, attempt: Callable[[], _T]) -> _T:
        """Return what `attempt` returns, once it does not raise DependencyUnavailable any more. Raises Stopped."""
        said_at_s: float | None = None
        while not self.is_stopping:
            try:
                return attempt()
            except DependencyUnavailable as error:
                now_s = time.monotonic()
                if said_at_s is None or now_s - said_at_s >= _SAY_EVERY_S:
                    _log.warning("waits for a dependency", dependency=name, reason=str(error))
                    said_at_s = now_s
                time.sleep(_WAIT_EVERY_S)
        raise Stopped

    def fail(self, error: BaseException) -> None:
        """End the process, with a code that has it started again. The first failure counts."""
        if self._failure is None:
            self._failure = error
            self._failed.set()

    def on_signal(self, number: int, _frame: object) -> None:
        """Begin to drain; at the second signal end at once."""
        if self._signal is not None:
            os._exit(128 + number)
        self._signal = number

    def serve(self, serving: Serving) -> int:
        """Work until a signal or a failure, then drain. Returns the exit code."""
        report_dependencies(self.metrics, serving.health.checks)
        page = MetricsPage(self.metrics, listen=self._settings.server.metrics_listen, lacking=serving.health.all_away)
        rpc = self._rpc_server(serving)
        page.start()
        self.stack.callback(page.close)
        (rpc or serving.health).start()
        if serving.http is not None:
            serving.http.start()
        threads = [self._thread(work) for work in serving.background]
        for thread in threads:
            thread.start()
        _log.info("serves", metrics=page.address, rpc=rpc.address if rpc else None, **_http_address(serving))
        while not self.is_stopping:
            self._failed.wait(_LOOK_EVERY_S)
        page.begin_drain()
        faces = [face for face in (rpc, serving.http) if face is not None]
        return self._drain(faces, threads, serving.health)

    def _drain(self, faces: Sequence[Face], threads: Sequence[threading.Thread], health: HealthFaces) -> int:
        """No new calls, the deliveries at hand finished, then the calls under way; all within the grace."""
        grace_s = self._settings.server.drain_grace_s
        ends_at_s = time.monotonic() + grace_s
        _log.info(
            "drains", signal=self._signal, grace_s=grace_s, failure=repr(self._failure) if self._failure else None
        )
        self._stop.set()
        for face in faces:
            face.begin_drain()
        for thread in threads:
            thread.join(max(0.0, ends_at_s - time.monotonic()))
        for face in faces:
            face.stop(grace_s=max(0.0, ends_at_s - time.monotonic()))
        health.close()
        late = [thread.name for thread in threads if thread.is_alive()]
        if late:
            _log.error("threads did not end in time", threads=late, grace_s=grace_s)
        if self._failure is not None:
            return _exit_code(self._failure)
        return 1 if late else 0

    def _thread(self, work: Background) -> threading.Thread:
        def run() -> None:
            try:
                work.run(self._stop)
                if not self._stop.is_set():
                    raise ThreadEnded(name=work.name)  # noqa: TRY301
            # Whatever it is: a process that has lost a thread is started again, not left half alive.
            except BaseException as error:  # noqa: BLE001
                _log.error("thread failed", thread=work.name, error=type(error).__name__, exc_info=error)
                self.fail(error)

        return threading.Thread(target=run, name=work.name, daemon=True)

    def _rpc_server(self, serving: Serving) -> RpcServer | None:
        if not serving.services:
            return None
        server = self._settings.server
        return RpcServer(
            serving.services,
            listen=server.listen,
            verifier=serving.verifier,
            health=serving.health,
            statuses=serving.statuses,
            limits=serving.limits,
            observer=CountedCalls(self.metrics),
            tracer=self._tracing,
            tls=server.tls_files(),
            on_failure=self.fail,
        )


def _http_address(serving: Serving) -> dict[str, str]:
    return {} if serving.http is None else {"http": serving.http.address}


def _open_tracing(settings: ProcessSettings, *, service: str) -> Tracing | None:
    endpoint = settings.telemetry.otlp_endpoint
    if not endpoint:
        return None
    # Costs a second and memory, which a process without a collector does not pay.
    from baldistill.telemetry.tracing import Tracing

    return Tracing(endpoint=endpoint, service=service, version=_VERSION)


def _exit_code(error: BaseException) -> int:
    return error.exit_code if isinstance(error, BalDistillError) else 1
