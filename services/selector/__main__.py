"""The selector process: plans scoring, closes selections, explains them. Knows no torch."""

from __future__ import annotations

from baldistill.jobs.sql_registry import SqlJobRegistry
from baldistill.rpc.health import HealthFaces
from baldistill.runtime.connections import callers_known_by, connect, consumers, have_lag_reported
from baldistill.runtime.process import Process, Serving
from baldistill.runtime.process_main import run_process
from services.selector.composition import selector_group
from services.selector.servers.servicer import SelectorServicer, bound
from services.selector.settings import SelectorSettings


def main() -> None:
    """Be the selector process."""
    run_process("selector", SelectorSettings, compose)


def compose(settings: SelectorSettings, process: Process) -> Serving:
    """Build the selector over the cluster's adapters. Raises Stopped, InvalidInput."""
    connections = connect(settings, process)
    group = selector_group(connections.store)
    service = bound(SelectorServicer(connections.store, SqlJobRegistry(connections.engine).put))
    have_lag_reported(process, connections.bus, [group])
    return Serving(
        health=HealthFaces({service.name: connections.needs()}),
        background=consumers(process, connections.bus, group, members=settings.consumers),
        services=[service],
        verifier=callers_known_by(settings.policy, process),
    )


if __name__ == "__main__":
    main()
