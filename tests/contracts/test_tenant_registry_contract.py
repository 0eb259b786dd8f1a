"""Promises of TenantRegistry, over every database."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from baldistill.database.engine import reading
from baldistill.errors import AlreadyThere, InvalidInput, LimitReached, NotKnown
from baldistill.testing.databases import StoppedClock
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.adapters.sql_tenants import SqlTenantRegistry
from services.policy.tenants import TenantRegistry, digest_of, new_token_text
from tests.contracts.test_run_registry_contract import NEW

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock(int(NOW.timestamp() * 1000))


@pytest.fixture
def tenants(engine: Engine, clock: StoppedClock) -> TenantRegistry:
    registry = SqlTenantRegistry(engine, clock=clock)
    registry.create(name="acme", max_active_runs=2)
    return registry


def make_token(tenants: TenantRegistry, *, name: str = "ci", expires_at: datetime | None = None) -> str:
    token = new_token_text()
    tenants.create_token(tenant="acme", name=name, is_admin=False, expires_at=expires_at, sha256=digest_of(token))
    return token


def test_a_token_is_known_by_its_digest_alone(tenants: TenantRegistry, engine: Engine) -> None:
    token = make_token(tenants)
    found = tenants.find_token(sha256=digest_of(token))
    assert found is not None
    assert (found.tenant, found.name, found.is_admin, found.created_at) == ("acme", "ci", False, NOW)
    assert tenants.find_token(sha256=digest_of(token + "x")) is None
    with reading(engine) as connection:
        stored = connection.execute(text("SELECT * FROM tokens")).one()
    assert token not in str(stored)


def test_tokens_have_256_random_bits() -> None:
    tokens = {new_token_text() for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {3 + 43}


def test_a_token_ends_at_its_time(tenants: TenantRegistry, clock: StoppedClock) -> None:
    token = make_token(tenants, expires_at=NOW + timedelta(seconds=10))
    clock.advance(9.9)
    assert tenants.find_token(sha256=digest_of(token)) is not None
    clock.advance(0.1)
    assert tenants.find_token(sha256=digest_of(token)) is None


def test_a_revoked_token_stands_for_nobody_and_keeps_its_name(tenants: TenantRegistry, clock: StoppedClock) -> None:
    token, other = make_token(tenants), make_token(tenants, name="laptop")
    assert tenants.revoke_token(tenant="acme", name="ci").revoked_at == NOW
    clock.advance(60)
    assert tenants.revoke_token(tenant="acme", name="ci").revoked_at == NOW
    assert tenants.find_token(sha256=digest_of(token)) is None
    assert tenants.find_token(sha256=digest_of(other)) is not None
    (acme,) = tenants.list_tenants()
    assert [(one.name, one.revoked_at) for one in acme.tokens] == [("ci", NOW), ("laptop", None)]
    with pytest.raises(AlreadyThere):
        make_token(tenants)


def test_names_are_checked_and_taken_once(tenants: TenantRegistry) -> None:
    for name in ("", "Acme", "a/b", "-a", "a" * 64, "a\n", ".."):
        with pytest.raises(InvalidInput):
            tenants.create(name=name, max_active_runs=None)
    with pytest.raises(AlreadyThere):
        tenants.create(name="acme", max_active_runs=None)
    assert [(one.name, one.max_active_runs) for one in tenants.list_tenants()] == [("acme", 2)]


def test_what_is_not_there_is_not_known(tenants: TenantRegistry) -> None:
    with pytest.raises(NotKnown):
        tenants.create_token(tenant="nobody", name="ci", is_admin=False, expires_at=None, sha256="00")
    with pytest.raises(NotKnown):
        tenants.revoke_token(tenant="acme", name="nobody")
    with pytest.raises(InvalidInput):
        make_token(tenants, expires_at=NOW)


def test_of_many_submissions_at_once_no_more_than_the_limit_go_in(tenants: TenantRegistry, engine: Engine) -> None:
    assert tenants.list_tenants()
    runs = SqlRunRegistry(engine)
    records = [dataclasses.replace(NEW, run_id=f"r-{number}", name=f"n-{number}") for number in range(6)]

    def create(number: int) -> bool:
        try:
            runs.create(records[number], limited=True)
        except LimitReached:
            return False
        return True

    with ThreadPoolExecutor(max_workers=6) as threads:
        went_in = list(threads.map(create, range(6)))
    assert sum(went_in) == 2
    with pytest.raises(LimitReached, match=r"may have 2 at once; .* cancel one"):
        runs.create(records[went_in.index(False)], limited=True)
    # The same run again is no new one.
    assert runs.create(records[went_in.index(True)], limited=True)
    with pytest.raises(NotKnown):
        runs.create(dataclasses.replace(NEW, tenant="nobody"), limited=True)
