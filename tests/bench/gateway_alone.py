"""The gateway's two faces as a process without a broker and without policy, for the benches of the gateway.

The same composition, settings, logs and metrics as `services.teacher_gateway`; a token is its tenant's name, as in tests.
"""

from __future__ import annotations

from pathlib import Path

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.database.engine import open_database
from baldistill.database.migrate import migrate
from baldistill.mounted_secrets import variables
from baldistill.pricing.book import PriceBook
from baldistill.rpc.authentication import CachingVerifier
from baldistill.rpc.health import HealthFaces
from baldistill.rpc.limits import ServerLimits
from baldistill.runtime.connections import ending, reporting_turn
from baldistill.runtime.process import Process, Serving
from baldistill.runtime.process_main import run_process
from baldistill.telemetry.observers import CountedRequests, report_budgets
from baldistill.testing.faces import TenantTokens
from services.teacher_gateway.adapters.sql_gauges import read_gauged_budgets
from services.teacher_gateway.composition import STATUSES, build_teacher_gateway
from services.teacher_gateway.servers.openai.opening import open_face
from services.teacher_gateway.settings import TeacherGatewaySettings


def compose(settings: TeacherGatewaySettings, process: Process) -> Serving:
    """Build the faces over the settings' database."""
    engine = open_database(settings.database.url.get_secret_value())
    process.stack.callback(engine.dispose)
    process.wait_for("database", lambda: migrate(engine))
    store = LocalArtifactStore(settings.artifacts_folder or Path("artifacts"))
    gateway = process.wait_for(
        "database",
        lambda: build_teacher_gateway(
            store=store,
            engine=engine,
            locks=settings.locks,
            environment=settings.keys_in(variables()),
            lease_s=settings.lease_s,
        ),
    )
    process.stack.callback(gateway.close)
    turn, keeping_turn = reporting_turn(engine, name="budget-gauges", handover_s=settings.telemetry.handover_s)
    report_budgets(process.metrics, lambda: read_gauged_budgets(engine) if turn.is_ours else [])
    verifier = CachingVerifier(TenantTokens())
    service = gateway.service(store=store, teacher=settings.teacher)
    return Serving(
        health=HealthFaces({service.name: ()}),
        background=[ending("teacher-calls", gateway.begin_drain), keeping_turn],
        services=[service],
        verifier=verifier,
        statuses=STATUSES,
        limits=ServerLimits(threads=settings.calls_at_once, longest_unary_s=settings.longest_call_s),
        http=open_face(
            settings.served_models(PriceBook.at(settings.prices).priced),
            gateway.forwarding,
            settings=settings.http,
            verifier=verifier,
            observer=CountedRequests(process.metrics),
            tracer=process.tracer,
            on_failure=process.fail,
        ),
    )


if __name__ == "__main__":
    run_process("teacher_gateway", TeacherGatewaySettings, compose)
