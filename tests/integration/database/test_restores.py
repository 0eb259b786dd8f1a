"""The ledger's PostgreSQL is restored from a backup: all budgets are frozen before anything is bought (ADR 51)."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from baldistill.database.engine import open_database
from baldistill.database.migrate import migrate
from baldistill.local_stack.postgres import Postgres, make_postgres
from baldistill.local_stack.server_process import free_port
from baldistill.tasks.bounds import CallBound
from services.teacher_gateway.adapters.sql_gate import SqlBudgetGate
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.adapters.sql_reconciling import SqlReconciler
from services.teacher_gateway.ledger.budgets import BudgetPath, Ceilings
from services.teacher_gateway.ledger.holds import AllFrozen, Booking, HoldState, Reply, Reserved, ReserveRequest
from services.teacher_gateway.ledger.reconciling import ProviderFigure

RUN = BudgetPath(tenant="acme", run_id="r1")


@pytest.fixture
def server() -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="baldistill-restore-"))
    # For the user that the server runs as.
    folder.chmod(0o755)
    one = make_postgres(folder, port=free_port(), durable=False)
    one.start(dies_with_parent=True)
    yield one
    one.delete()


@contextmanager
def gateway(url: str) -> Iterator[SqlLedger]:
    """A gateway's ledger, as it is at a start."""
    engine = open_database(url)
    migrate(engine)
    ledger = SqlLedger(engine)
    ledger.beat()
    yield ledger
    ledger.close()
    engine.dispose()


def buy(ledger: SqlLedger, key: str) -> object:
    """Buy an answer. Return how its reserve ended."""
    asked = ReserveRequest(
        request_key=key,
        prompt_sha256="p",
        path=RUN,
        bound=CallBound(calls=1, prompt_tokens=60, completion_tokens=40, nano_usd=500),
        price_version="v1",
        send_within_ms=10_000,
        call_timeout_ms=60_000,
        send_at_once=True,
    )
    (outcome,) = ledger.reserve([asked])
    if isinstance(outcome, Reserved):
        reply = Reply(attempt=1, model="m", text="t", finish_reason="stop", prompt_tokens=9, completion_tokens=1)
        ledger.book(outcome, Booking(state=HoldState.SETTLED, outcome="answered", reply=reply, tokens=10, nano_usd=50))
    return outcome


def backed_up_and_spent_after(server: Postgres) -> Path:
    """Make a ledger with 2 of 5 calls spent, back the stopped server up, spend 2 more. Return the backup."""
    with gateway(server.url) as ledger:
        ledger.ensure_budget(RUN, ceilings=Ceilings(calls=5), actor="test")
        assert [isinstance(buy(ledger, key), Reserved) for key in "ab"] == [True, True]
    server.stop()
    backup = server.home / "backup"
    copy(server.home / "data", backup)
    server.start(dies_with_parent=True)
    with gateway(server.url) as ledger:
        assert [isinstance(buy(ledger, key), Reserved) for key in "cd"] == [True, True]
    return backup


def copy(source: Path, target: Path) -> None:
    """Copy a data folder with its owner and its rights."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def put_back(server: Postgres, backup: Path, *, recover: bool) -> None:
    """Start the server from a backup. recover: as tools for backups do, by recovery of the log, which begins a new timeline."""
    server.stop()
    data = server.home / "data"
    copy(backup, data)
    if recover:
        copy(data / "PG_VERSION", data / "recovery.signal")
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write("restore_command = 'false'\n")
    server.start(dies_with_parent=True)


def test_a_server_recovered_from_a_backup_spends_nothing_until_it_is_reconciled(server: Postgres) -> None:
    put_back(server, backed_up_and_spent_after(server), recover=True)
    with gateway(server.url) as ledger:
        outcome = buy(ledger, "e")
        assert isinstance(outcome, AllFrozen)
        assert "timeline is 00000002, it was 00000001" in outcome.reason
        # The provider served 4 calls; the ledger knows 2: one of 5 is left, not three.
        tenant = ProviderFigure(path=BudgetPath(tenant="acme"), calls=4, tokens=40, nano_usd=200)
        run = ProviderFigure(path=RUN, calls=4, tokens=40, nano_usd=200)
        SqlReconciler(ledger._engine).reconcile([tenant, run], actor="anna", dry_run=False)
        assert [isinstance(buy(ledger, key), Reserved) for key in "ef"] == [True, False]
        assert ledger.budget_tree(RUN)[0].spent.calls == 5


def test_a_data_folder_put_back_is_recognised_by_a_gateway_that_lived_on(server: Postgres) -> None:
    backup = backed_up_and_spent_after(server)
    with gateway(server.url) as living:
        assert isinstance(buy(living, "e"), Reserved)
        put_back(server, backup, recover=False)
        outcome = buy(living, "f")
        assert isinstance(outcome, AllFrozen)
        assert "an earlier copy" in outcome.reason


def test_a_dump_restored_into_a_database_of_its_own_is_recognised(server: Postgres) -> None:
    with gateway(server.url) as ledger:
        ledger.ensure_budget(RUN, ceilings=Ceilings(calls=5), actor="test")
        assert isinstance(buy(ledger, "a"), Reserved)
    dump = subprocess.run([program(server, "pg_dump"), as_libpq(server.url)], check=True, capture_output=True)
    restored = server.create_database("restored")
    subprocess.run(
        [program(server, "psql"), "-q", as_libpq(restored)], input=dump.stdout, check=True, stdout=subprocess.DEVNULL
    )
    with gateway(restored) as ledger:
        assert "a dump was restored" in SqlBudgetGate(ledger._engine).read().reason
        assert isinstance(buy(ledger, "b"), AllFrozen)


def test_a_server_that_crashed_is_the_same_database(server: Postgres) -> None:
    with gateway(server.url) as ledger:
        ledger.ensure_budget(RUN, ceilings=Ceilings(calls=5), actor="test")
        assert isinstance(buy(ledger, "a"), Reserved)
        server.kill()
        server.start(dies_with_parent=True)
        assert isinstance(buy(ledger, "b"), Reserved)


def program(server: Postgres, name: str) -> str:
    """Return one of the programs that came with the server."""
    return str(server._programs / name)


def as_libpq(url: str) -> str:
    """Return a URL as the server's own programs read it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
