"""`baldistill admin migrate` and `bootstrap`: straight on the services' database, named by BALDISTILL_DATABASE__URL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baldistill.environment import load_settings
from baldistill.errors import AlreadyThere, InvalidInput
from baldistill.settings import DatabaseOnlySettings
from services.cli.home import JsonOption
from services.cli.output import MESSAGES, RESULTS, print_json

if TYPE_CHECKING:
    from sqlalchemy import Engine

# 128 bits in hexadecimal digits.
_SHORTEST_TOKEN = 32
_DIGITS_IN_NAME = 8


def migrate() -> None:
    """Bring the services' database to the newest schema. Safe to run by many at once.

    Example: BALDISTILL_DATABASE__URL=postgresql+psycopg://... baldistill admin migrate
    """
    with _migrated_database():
        MESSAGES.print("The database has the newest schema.")


def bootstrap(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="The token's tenant; made where it is absent.")],
    name: Annotated[str, typer.Option("--token-name", help="The token's name, for logs and audit.")] = "admin",
    token_file: Annotated[
        Path | None,
        typer.Option(help="Use the token in this file instead of a new one, and show none. Again, nothing is changed."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the first admin's token, when nobody has one yet to call policy with. It is shown once: store it now.

    Further tenants and tokens are made by policy: `baldistill tenant create`.
    """
    # Deferred: only who works on the database imports its libraries.
    from services.policy.adapters.sql_tenants import SqlTenantRegistry
    from services.policy.tenants import digest_of, new_token_text

    text = new_token_text() if token_file is None else _token_in(token_file)
    digest = digest_of(text)
    with _migrated_database() as engine:
        tenants = SqlTenantRegistry(engine)
        with contextlib.suppress(AlreadyThere):
            tenants.create(name=tenant, max_active_runs=None)
        # A token that was exchanged in its file needs a name of its own; the one before stays until it is revoked.
        named = name if token_file is None else f"{name}-{digest[:_DIGITS_IN_NAME]}"
        if token_file is None or tenants.find_token(sha256=digest) is None:
            tenants.create_token(tenant=tenant, name=named, is_admin=True, expires_at=None, sha256=digest)
    if token_file is not None:
        MESSAGES.print(f"Tenant {tenant} knows the token of {token_file} as {named}.", soft_wrap=True)
        return
    if as_json:
        print_json({"tenant": tenant, "name": name, "token": text})
        return
    RESULTS.print(text, soft_wrap=True)
    MESSAGES.print("This is the token; it is kept nowhere. Use it as BALDISTILL_TOKEN.")


def _token_in(path: Path) -> str:
    """Return a token that somebody else made. Raises InvalidInput."""
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", path=path) from None
    if len(text) < _SHORTEST_TOKEN:
        raise InvalidInput(
            f"a token has at least {_SHORTEST_TOKEN} characters; `openssl rand -hex 32` makes one", path=path
        )
    return text


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
