"""Traces over a real OTLP collector: one trace from a call through the event chain; none at all where it is off."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from baldistill.artifacts.ports import ArtifactRef
from baldistill.bus.in_process import InProcessBus
from baldistill.errors import InvalidInput
from baldistill.events.facts import (
    BaselineEvaluated,
    ExamplesSelected,
    Fact,
    RunState,
    RunStateChanged,
    RunSubmitted,
    StagePlanned,
)
from baldistill.events.publishing import FactPublisher
from baldistill.events.trace_context import carrying, sound_traceparent
from baldistill.jobs.owners import JobOwner
from baldistill.jobs.sql_registry import SqlJobRegistry
from baldistill.jobs.watcher import JobWatcher
from baldistill.rpc.client import RpcClient
from baldistill.rpc.routes import BoundService
from baldistill.rpc.server import RpcServer
from baldistill.runtime.consumer import ConsumerLoop
from baldistill.runtime.handlers import ConsumerGroup, HandlerTable
from baldistill.runtime.launching import Job, JobKind
from baldistill.runtime.watching import DeliveryWatch
from baldistill.telemetry.tracing import Tracing
from baldistill.testing.databases import open_test_database
from baldistill.v1 import policy_pb2, policy_pb2_grpc

REF = ArtifactRef(key="k", sha256="s", size_bytes=1)
SERVICE = "baldistill.v1.PolicyService"
PLANNED = StagePlanned(tenant="acme", run_id="r1", epoch=1, stage=1, spec=REF, plan=REF, previous_student=None)
SELECTED = ExamplesSelected(tenant="acme", run_id="r1", epoch=1, stage=1, spec=REF, plan=REF, selection=REF)
RUNNING = RunStateChanged(tenant="acme", run_id="r1", epoch=1, stage=1, state=RunState.RUNNING)
SUBMITTED = RunSubmitted(tenant="acme", run_id="r1", epoch=1, stage=0, spec=REF)
MEASURED = BaselineEvaluated(tenant="acme", run_id="r1", epoch=1, stage=0, metrics=REF)
FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent, by name."""

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}
        self.arrived = threading.Condition()

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        with self.arrived:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    self.spans |= {span.name: span for span in scope.spans}
            self.arrived.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def wait_for(self, *names: str) -> list[Span]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: set(names) <= set(self.spans), timeout=20), list(self.spans)
            return [self.spans[name] for name in names]


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    collector, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def tracing(collector: tuple[Collector, str]) -> Iterator[Tracing]:
    tracing = Tracing(endpoint=collector[1], service="policy", version="1")
    yield tracing
    tracing.close()


class Submitting(policy_pb2_grpc.PolicyServiceServicer):
    """Publishes the first fact of a chain."""

    def __init__(self, bus: InProcessBus) -> None:
        self._publish = FactPublisher(bus, source="policy")

    def SubmitRun(self, request: policy_pb2.SubmitRunRequest, context: object) -> policy_pb2.SubmitRunResponse:
        self._publish([RUNNING, PLANNED])
        return policy_pb2.SubmitRunResponse(created=True)


@pytest.fixture
def bus() -> InProcessBus:
    return InProcessBus()


def serve(bus: InProcessBus, tracing: Tracing | None) -> RpcServer:
    service = BoundService(
        name=SERVICE,
        servicer=Submitting(bus),  # type: ignore[abstract]  # the other methods are unimplemented, as generated
        add=policy_pb2_grpc.add_PolicyServiceServicer_to_server,
    )
    server = RpcServer([service], listen="127.0.0.1:0", verifier=None, tracer=tracing)
    server.start()
    return server


def submit(server: RpcServer) -> None:
    with RpcClient(endpoint=server.address) as client:
        policy_pb2_grpc.PolicyServiceStub(client.channel).SubmitRun(policy_pb2.SubmitRunRequest(spec="secret"))


def work(bus: InProcessBus, group: str, handlers: HandlerTable, watch: DeliveryWatch | None) -> None:
    loop = ConsumerLoop(bus=bus, group=ConsumerGroup(name=group, handlers=handlers), run_states=None, watch=watch)
    while loop.step(timeout_s=0):
        pass


def run_chain(bus: InProcessBus, tracing: Tracing | None) -> None:
    server = serve(bus, tracing)
    submit(server)
    server.stop(grace_s=1)
    work(bus, "selector", {StagePlanned: lambda _: [SELECTED]}, tracing)
    work(bus, "teacher_gateway", {ExamplesSelected: lambda _: []}, tracing)


def test_a_call_and_the_events_that_it_leads_to_are_one_trace(
    collector: tuple[Collector, str], tracing: Tracing, bus: InProcessBus
) -> None:
    run_chain(bus, tracing)
    call, planned, selected = collector[0].wait_for(
        f"{SERVICE}/SubmitRun", "selector StagePlanned", "teacher_gateway ExamplesSelected"
    )
    assert call.trace_id == planned.trace_id == selected.trace_id
    assert call.parent_span_id == b""
    assert planned.parent_span_id == call.span_id
    assert selected.parent_span_id == planned.span_id
    attributes = {entry.key: entry.value.string_value for entry in planned.attributes}
    assert attributes["baldistill.tenant"] == "acme"
    assert attributes["baldistill.run_id"] == "r1"
    assert "secret" not in str([call, planned, selected])


def test_what_a_launched_job_leads_to_is_in_the_trace_of_the_event_that_launched_it(
    collector: tuple[Collector, str], tracing: Tracing, bus: InProcessBus, tmp_path: Path
) -> None:
    publish = FactPublisher(bus, source="trainer")
    engine = open_test_database(kind="sqlite", location=str(tmp_path))
    launcher = JobWatcher(
        registry=SqlJobRegistry(engine),
        owner=JobOwner(lock_folder=None),
        kinds=[JobKind.TRAIN],
        work=lambda _job, _should_stop: None,
        on_done=lambda _job: publish([MEASURED]),
        on_failed=lambda _job, error: pytest.fail(repr(error)),
        tick_s=0.02,
    )

    def launch(fact: RunSubmitted) -> list[Fact]:
        launcher.launch(Job(tenant=fact.tenant, run_id=fact.run_id, epoch=fact.epoch, stage=0, spec=fact.spec))
        return []

    with carrying(FOREIGN):
        publish([SUBMITTED])
    work(bus, "trainer", {RunSubmitted: launch}, tracing)
    # A replica that comes later finds the trace in the row.
    launcher.start()
    while launcher.is_busy():
        time.sleep(0.01)
    launcher.close()
    engine.dispose()
    work(bus, "policy", {BaselineEvaluated: lambda _: []}, tracing)
    launched, measured = collector[0].wait_for("trainer RunSubmitted", "policy BaselineEvaluated")
    assert launched.trace_id.hex() == FOREIGN.split("-")[1]
    assert measured.trace_id == launched.trace_id
    assert measured.parent_span_id == launched.span_id


def test_a_callers_own_trace_goes_on_through_us(
    collector: tuple[Collector, str], tracing: Tracing, bus: InProcessBus
) -> None:
    with carrying(FOREIGN):
        run_chain(bus, tracing)
    (selected,) = collector[0].wait_for("teacher_gateway ExamplesSelected")
    assert selected.trace_id.hex() == FOREIGN.split("-")[1]


def test_a_failed_handlers_span_names_its_error_and_not_its_text(
    collector: tuple[Collector, str], tracing: Tracing, bus: InProcessBus
) -> None:
    def fail(_: Fact) -> list[Fact]:
        raise ValueError("secret")

    FactPublisher(bus, source="policy")([PLANNED])
    loop = ConsumerLoop(
        bus=bus, group=ConsumerGroup(name="selector", handlers={StagePlanned: fail}), run_states=None, watch=tracing
    )
    loop.step(timeout_s=0)
    (span,) = collector[0].wait_for("selector StagePlanned")
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "ValueError")


def test_without_tracing_a_callers_trace_is_passed_on_unread(bus: InProcessBus) -> None:
    with carrying(FOREIGN):
        run_chain(bus, None)
    consumer = bus.consumer(group="test", topics=[ExamplesSelected.TOPIC])
    delivery = consumer.poll(timeout_s=1)
    assert delivery is not None
    assert delivery.message.headers["traceparent"] == FOREIGN
    consumer.close()


def test_without_tracing_and_trace_no_header_is_sent(bus: InProcessBus) -> None:
    run_chain(bus, None)
    consumer = bus.consumer(group="test", topics=[ExamplesSelected.TOPIC])
    delivery = consumer.poll(timeout_s=1)
    assert delivery is not None
    assert "traceparent" not in delivery.message.headers
    consumer.close()


@pytest.mark.parametrize(
    "sent", ["", "00-0-0-01", f"{FOREIGN}x", "00-" + "0" * 32 + "-b7ad6b7169203331-01", b"bytes", None, "ü"]
)
def test_what_is_no_trace_context_is_not_passed_on(sent: object) -> None:
    assert sound_traceparent(sent) is None
    assert sound_traceparent(FOREIGN) == FOREIGN


def test_a_collector_that_is_away_costs_spans_and_no_work(bus: InProcessBus) -> None:
    tracing = Tracing(endpoint="http://127.0.0.1:1", service="policy", version="1")
    run_chain(bus, tracing)
    consumer = bus.consumer(group="test", topics=[ExamplesSelected.TOPIC])
    assert consumer.poll(timeout_s=1) is not None
    consumer.close()
    tracing.close()


def test_a_bad_endpoint_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"telemetry\.otlp_endpoint"):
        Tracing(endpoint="localhost:4317", service="policy", version="1")


def test_off_means_that_nothing_of_it_is_imported() -> None:
    script = (
        "import sys; from baldistill.runtime import process_main;"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
