"""`baldistill admin`: what an operator does once for an installation."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import typer
from rich.table import Table

from baldistill.bus.topics import TopicState, TopicStatus, compare, expected_topics
from baldistill.settings import BrokerSettings, KafkaSettings
from services.cli.admin_database import bootstrap, migrate
from services.cli.home import JsonOption
from services.cli.output import EXIT_FAILED, MESSAGES, RESULTS, print_json

admin_app = typer.Typer(help="What an operator does once for an installation.", no_args_is_help=True)
admin_app.command()(bootstrap)
admin_app.command()(migrate)


@admin_app.callback()
def admin() -> None:
    """What an operator does once for an installation."""


@admin_app.command()
def topics(
    create: Annotated[
        bool, typer.Option("--create", help="Make what is missing. What is there stays as it is.")
    ] = False,
    bootstrap_servers: Annotated[
        str, typer.Option(help="host:port of the broker, comma-separated; else BALDISTILL_KAFKA__BOOTSTRAP_SERVERS.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """List every topic that the services need, and what the broker has; make what is missing.

    Credentials, partitions, replication and retention come from BALDISTILL_KAFKA__* (docs/reference/kafka.md).
    Exits with 1 where a topic is missing. Example: baldistill admin topics --create
    """
    settings = BrokerSettings().kafka
    if bootstrap_servers:
        settings = settings.model_copy(update={"bootstrap_servers": bootstrap_servers})
    statuses, made = _compare_and_create(settings, create=create)
    if as_json:
        print_json([_document(status) for status in statuses])
    else:
        _print(statuses)
        if create:
            MESSAGES.print(f"Made {made} of {len(statuses)} topics." if made else "Nothing was missing.")
    if any(status.state is TopicState.MISSING for status in statuses):
        MESSAGES.print("Make what is missing: baldistill admin topics --create")
        raise typer.Exit(EXIT_FAILED)


def _compare_and_create(settings: KafkaSettings, *, create: bool) -> tuple[list[TopicStatus], int]:
    # Deferred: the embedded mode needs no client library.
    from baldistill.bus.kafka.bus import open_bus

    expected = expected_topics(settings)
    with closing(open_bus(settings, client_id="baldistill-admin")) as bus:
        statuses = compare(expected, bus.topics())
        missing = [status.topic for status in statuses if status.state is TopicState.MISSING]
        if not create or not missing:
            return statuses, 0
        bus.create_topics(missing)
        return compare(expected, bus.topics()), len(missing)


def _print(statuses: list[TopicStatus]) -> None:
    table = Table()
    table.add_column("topic", no_wrap=True)
    for heading in ("there", "set", "kept", "state"):
        table.add_column(heading)
    for status in statuses:
        there = "-" if status.partitions is None else str(status.partitions)
        table.add_row(
            status.topic.name, there, str(status.topic.partitions), _kept(status), status.state.value.replace("_", " ")
        )
    RESULTS.print(table)
    if any(status.state is TopicState.OTHER_PARTITIONS for status in statuses):
        MESSAGES.print("Partitions of a live topic are never changed: a run's facts would lose their order.")


def _kept(status: TopicStatus) -> str:
    configs = status.topic.configs
    if configs.get("cleanup.policy") == "compact":
        return "newest"
    hours = int(configs["retention.ms"]) / 3_600_000
    return f"{hours / 24:g} d" if hours >= 24 else f"{hours:g} h"


def _document(status: TopicStatus) -> dict[str, Any]:
    return {
        "topic": status.topic.name,
        "state": status.state.value,
        "partitions": status.partitions,
        "partitions_set": status.topic.partitions,
        "replication_set": status.topic.replication,
        "configs_set": dict(status.topic.configs),
    }
