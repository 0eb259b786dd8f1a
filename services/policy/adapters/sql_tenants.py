"""TenantRegistry on SQL (SQLAlchemy Core). The tables are made by migration 0004_tenants."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from baldistill.database.clock import DatabaseClock, ServerClock
from baldistill.database.engine import reading, writing
from baldistill.database.insertion import insert_once
from baldistill.errors import AlreadyThere, InvalidInput, NotKnown
from services.policy.tenants import Tenant, Token, checked_name

_METADATA = sa.MetaData()

_TENANTS = sa.Table(
    "tenants",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("max_active_runs", sa.Integer),
    sa.Column("created_at_ms", sa.BigInteger),
)
_TOKENS = sa.Table(
    "tokens",
    _METADATA,
    sa.Column("sha256", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text),
    sa.Column("name", sa.Text),
    sa.Column("is_admin", sa.Boolean),
    sa.Column("created_at_ms", sa.BigInteger),
    sa.Column("expires_at_ms", sa.BigInteger),
    sa.Column("revoked_at_ms", sa.BigInteger),
)


class SqlTenantRegistry:
    """Tenants in SQL. Thread- and process-safe; every method is one transaction."""

    def __init__(self, engine: sa.Engine, *, clock: DatabaseClock | None = None) -> None:
        self._engine = engine
        self._clock = clock or ServerClock()

    def create(self, *, name: str, max_active_runs: int | None) -> Tenant:
        checked_name(name, field="name")
        if max_active_runs is not None and max_active_runs < 1:
            raise InvalidInput("at least 1, or nothing for no limit", field="max_active_runs")
        with writing(self._engine) as connection:
            now_ms = self._clock.now_ms(connection)
            values = {"name": name, "max_active_runs": max_active_runs, "created_at_ms": now_ms}
            if not insert_once(connection, _TENANTS, values, key=("name",)):
                raise AlreadyThere(kind="tenant", name=name, difference="see `baldistill tenant list`")
        return Tenant(name=name, max_active_runs=max_active_runs, created_at=_time(now_ms))

    def list_tenants(self) -> list[Tenant]:
        with reading(self._engine) as connection:
            tenants = connection.execute(_TENANTS.select().order_by(_TENANTS.c.name)).all()
            tokens = [_token(row) for row in connection.execute(_TOKENS.select().order_by(_TOKENS.c.name))]
        return [
            Tenant(
                name=row.name,
                max_active_runs=row.max_active_runs,
                created_at=_time(row.created_at_ms),
                tokens=tuple(token for token in tokens if token.tenant == row.name),
            )
            for row in tenants
        ]

    def create_token(
        self, *, tenant: str, name: str, is_admin: bool, expires_at: datetime | None, sha256: str
    ) -> Token:
        checked_name(name, field="name")
        with writing(self._engine) as connection:
            lock_tenant(connection, tenant)
            if connection.execute(_TOKENS.select().where(*_named(tenant, name))).first() is not None:
                raise AlreadyThere(kind="token", name=name, difference="choose another name; ended tokens keep theirs")
            now_ms = self._clock.now_ms(connection)
            expires_at_ms = None if expires_at is None else int(expires_at.timestamp() * 1000)
            if expires_at_ms is not None and expires_at_ms <= now_ms:
                raise InvalidInput("is over already", field="expire_time")
            values = {
                "sha256": sha256,
                "tenant": tenant,
                "name": name,
                "is_admin": is_admin,
                "created_at_ms": now_ms,
                "expires_at_ms": expires_at_ms,
            }
            connection.execute(_TOKENS.insert().values(values))
            return _token(connection.execute(_TOKENS.select().where(*_named(tenant, name))).one())

    def revoke_token(self, *, tenant: str, name: str) -> Token:
        with writing(self._engine) as connection:
            live = (*_named(tenant, name), _TOKENS.c.revoked_at_ms.is_(None))
            connection.execute(_TOKENS.update().where(*live).values(revoked_at_ms=self._clock.now_ms(connection)))
            row = connection.execute(_TOKENS.select().where(*_named(tenant, name))).one_or_none()
        if row is None:
            raise NotKnown(kind="token", name=f"{tenant}/{name}", remedy="see `baldistill tenant list`")
        return _token(row)

    def find_token(self, *, sha256: str) -> Token | None:
        with reading(self._engine) as connection:
            now_ms = self._clock.now_ms(connection)
            is_live = sa.and_(
                _TOKENS.c.revoked_at_ms.is_(None),
                sa.or_(_TOKENS.c.expires_at_ms.is_(None), _TOKENS.c.expires_at_ms > now_ms),
            )
            row = connection.execute(_TOKENS.select().where(_TOKENS.c.sha256 == sha256, is_live)).one_or_none()
        return None if row is None else _token(row)


def lock_tenant(connection: sa.Connection, name: str) -> int | None:
    """Let nobody else change a tenant until this transaction ends. Return its limit of unfinished runs.

    Raises NotKnown.
    """
    mine = _TENANTS.c.name == name
    # An update of nothing: FOR UPDATE is silently no lock on SQLite.
    if connection.execute(_TENANTS.update().where(mine).values(name=name)).rowcount == 0:
        raise NotKnown(kind="tenant", name=name, remedy="make it with `baldistill tenant create`")
    limit: int | None = connection.execute(sa.select(_TENANTS.c.max_active_runs).where(mine)).scalar_one()
    return limit


def _named(tenant: str, name: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (_TOKENS.c.tenant == tenant, _TOKENS.c.name == name)


def _token(row: Any) -> Token:
    return Token(
        tenant=row.tenant,
        name=row.name,
        is_admin=row.is_admin,
        created_at=_time(row.created_at_ms),
        expires_at=None if row.expires_at_ms is None else _time(row.expires_at_ms),
        revoked_at=None if row.revoked_at_ms is None else _time(row.revoked_at_ms),
    )


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)
