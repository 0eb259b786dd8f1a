"""`baldistill admin migrate` and `bootstrap`: straight on the services' database, named by BALDISTILL_DATABASE__URL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from baldistill.environment import load_settings
from baldistill.errors import AlreadyThere
from baldistill.settings import DatabaseOnlySettings
from services.cli.home import JsonOption
from services.cli.output import MESSAGES, RESULTS, print_json

if TYPE_CHECKING:
    from sqlalchemy import Engine


def migrate() -> None:
    """Bring the services' database to the newest schema. Safe to run by many at once.

    Example: BALDISTILL_DATABASE__URL=postgresql+psycopg://... baldistill admin migrate
    """
    with _migrated_database():
        MESSAGES.print("The database has the newest schema.")


def bootstrap(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="The token's tenant; made where it is absent.")],
    name: Annotated[str, typer.Option("--token-name", help="The token's name, for logs and audit.")] = "admin",
    as_json: JsonOption = False,
) -> None:
    """Make the first admin's token, when nobody has one yet to call policy with. It is shown once: store it now.

    Further tenants and tokens are made by policy: `baldistill tenant create`.
    """
    # Deferred: only who works on the database imports its libraries.
    from services.policy.adapters.sql_tenants import SqlTenantRegistry
    from services.policy.tenants import digest_of, new_token_text

    text = new_token_text()
    with _migrated_database() as engine:
        tenants = SqlTenantRegistry(engine)
        with contextlib.suppress(AlreadyThere):
            tenants.create(name=tenant, max_active_runs=None)
        tenants.create_token(tenant=tenant, name=name, is_admin=True, expires_at=None, sha256=digest_of(text))
    if as_json:
        print_json({"tenant": tenant, "name": name, "token": text})
        return
    RESULTS.print(text, soft_wrap=True)
    MESSAGES.print("This is the token; it is kept nowhere. Use it as BALDISTILL_TOKEN.")


@contextmanager
def _migrated_database() -> Iterator[Engine]:
    from baldistill.database.engine import open_database
    from baldistill.database.migrate import migrate as migrate_engine

    engine = open_database(load_settings(DatabaseOnlySettings).database.url.get_secret_value())
    try:
        migrate_engine(engine)
        yield engine
    finally:
        engine.dispose()
