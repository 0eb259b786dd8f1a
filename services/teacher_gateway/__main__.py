"""The gateway process: budgets, ledger, teacher calls. Knows no torch."""

from __future__ import annotations

import time

from baldistill.mounted_secrets import variables
from baldistill.pricing.book import PriceBook
from baldistill.rpc.authentication import TokenVerifier
from baldistill.rpc.health import HealthFaces
from baldistill.rpc.limits import ServerLimits
from baldistill.runtime.connections import (
    callers_known_by,
    connect,
    consumers,
    ending,
    have_lag_reported,
    reporting_turn,
)
from baldistill.runtime.process import Face, Process, Serving
from baldistill.runtime.process_main import run_process
from baldistill.telemetry.metrics import MOST_DETAILED_RUNS
from baldistill.telemetry.observers import BudgetReading, CountedRequests, report_budgets
from services.teacher_gateway.adapters.domain_outcomes import DomainOutcomes
from services.teacher_gateway.adapters.sql_gauges import read_gauged_budgets
from services.teacher_gateway.adapters.stage_spending import read_stage_spending
from services.teacher_gateway.composition import STATUSES, TeacherGateway, build_teacher_gateway
from services.teacher_gateway.purchase_metrics import (
    BurnRates,
    CountedPurchases,
    report_burn,
    report_examples,
    report_gate,
    report_queue,
    report_stages,
)
from services.teacher_gateway.servers.openai.opening import open_face
from services.teacher_gateway.settings import TeacherGatewaySettings


def main() -> None:
    """Be the gateway process."""
    run_process("teacher_gateway", TeacherGatewaySettings, compose)


def compose(settings: TeacherGatewaySettings, process: Process) -> Serving:
    """Build the gateway over the cluster's adapters. Raises Stopped, InvalidInput."""
    connections = connect(settings, process)
    gateway = process.wait_for(
        "database",
        lambda: build_teacher_gateway(
            store=connections.store,
            engine=connections.engine,
            locks=settings.locks,
            environment=settings.keys_in(variables()),
            teacher_urls=settings.urls(),
            progress=connections.progress,
            lease_s=settings.lease_s,
            key_limits=settings.key_limits,
            queue=settings.queue,
            observer=CountedPurchases(process.metrics),
            trusts_promotions=settings.standby_has_every_commit,
        ),
    )
    process.stack.callback(gateway.close)
    facts, shards = gateway.groups
    book = PriceBook.at(settings.prices)
    service = gateway.service(
        store=connections.store, teacher=None if settings.teacher is None else book.priced(settings.teacher)
    )
    verifier = callers_known_by(settings.policy, process)
    have_lag_reported(process, connections.bus, gateway.groups)
    turn, keeping_turn = reporting_turn(
        connections.engine, name="budget-gauges", handover_s=settings.telemetry.handover_s
    )

    def budgets() -> list[BudgetReading]:
        return read_gauged_budgets(connections.engine) if turn.is_ours else []

    outcomes = DomainOutcomes(connections.engine, connections.store)
    report_budgets(process.metrics, budgets)
    report_burn(process.metrics, budgets, BurnRates(time.monotonic))
    report_gate(process.metrics, lambda: gateway.budgets_are_open() if turn.is_ours else None)
    report_examples(process.metrics, lambda: outcomes.read(most_runs=MOST_DETAILED_RUNS) if turn.is_ours else {})
    report_stages(process.metrics, lambda: read_stage_spending(connections.engine) if turn.is_ours else [])
    report_queue(process.metrics, queued=gateway.queued_calls, open_circuits=gateway.open_circuits)
    return Serving(
        health=HealthFaces({service.name: connections.needs()}),
        background=[
            *consumers(process, connections.bus, facts, members=settings.consumers),
            *consumers(process, connections.bus, shards, members=settings.workers),
            # Workers would ask on until their shards are done.
            ending("teacher-calls", gateway.begin_drain),
            keeping_turn,
        ],
        services=[service],
        verifier=verifier,
        http=_http_face(gateway, settings, process, verifier, book) if settings.http.listen else None,
        statuses=STATUSES,
        limits=ServerLimits(threads=settings.calls_at_once, longest_unary_s=settings.longest_call_s),
    )


def _http_face(
    gateway: TeacherGateway,
    settings: TeacherGatewaySettings,
    process: Process,
    verifier: TokenVerifier,
    book: PriceBook,
) -> Face:
    return open_face(
        settings.served_models(book.priced),
        gateway.forwarding,
        settings=settings.http,
        verifier=verifier,
        observer=CountedRequests(process.metrics),
        tracer=process.tracer,
        tls=settings.server.tls_files(),
        on_failure=process.fail,
    )


if __name__ == "__main__":
    main()
