"""The first token is made on the database itself, shown once, and stands for an admin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import require_current
from baldistill.errors import AlreadyThere, InvalidInput
from services.cli.app import app
from services.policy.adapters.sql_tenants import SqlTenantRegistry
from services.policy.tenants import digest_of


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = sqlite_url(tmp_path / "state.db")
    monkeypatch.setenv("BALDISTILL_DATABASE__URL", url)
    return url


def test_an_empty_database_gets_its_schema_its_first_tenant_and_an_admins_token(url: str) -> None:
    made = CliRunner().invoke(app, ["admin", "bootstrap", "ops", "--json"])
    assert made.exit_code == 0, made.output
    token = json.loads(made.stdout)["token"]
    engine = open_database(url)
    require_current(engine)
    found = SqlTenantRegistry(engine).find_token(sha256=digest_of(token))
    engine.dispose()
    assert found is not None
    assert (found.tenant, found.name, found.is_admin) == ("ops", "admin", True)
    again = CliRunner().invoke(app, ["admin", "bootstrap", "ops"])
    assert isinstance(again.exception, AlreadyThere)
    assert CliRunner().invoke(app, ["admin", "bootstrap", "ops", "--token-name", "second"]).exit_code == 0


def test_a_token_in_a_file_is_made_known_once_and_a_changed_one_beside_it(url: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    command = ["admin", "bootstrap", "ops", "--token-name", "services", "--token-file", str(file)]
    known = []
    for text in ("a" * 40, "a" * 40, "b" * 40):
        file.write_text(text + "\n")
        made = CliRunner().invoke(app, command)
        assert made.exit_code == 0, made.output
        assert text not in made.output
        engine = open_database(url)
        token = SqlTenantRegistry(engine).find_token(sha256=digest_of(text))
        engine.dispose()
        assert token is not None
        known.append((token.is_admin, token.name))
    assert known[0] == known[1]
    assert known[2][1] not in {"services", known[0][1]}
    file.write_text("short")
    assert isinstance(CliRunner().invoke(app, command).exception, InvalidInput)


def test_migrating_twice_changes_nothing(url: str) -> None:
    for _ in range(2):
        assert CliRunner().invoke(app, ["admin", "migrate"]).exit_code == 0
    engine = open_database(url)
    require_current(engine)
    engine.dispose()
