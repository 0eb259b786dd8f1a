"""PostgreSQL from the distribution keeps what was committed, whatever ends it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from baldistill.local_stack import debian, installing
from baldistill.local_stack.postgres import Postgres, make_postgres
from baldistill.local_stack.server_process import ServerMissing, free_port

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def server() -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="baldistill-postgres-"))
    folder.chmod(0o755)
    server = make_postgres(folder, port=free_port())
    server.start(dies_with_parent=True)
    yield server
    server.delete()


def connect(server: Postgres) -> psycopg.Connection:
    return psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True, connect_timeout=3)


def test_what_was_committed_is_there_after_a_stop_and_after_a_kill(server: Postgres) -> None:
    with connect(server) as connection:
        connection.execute("CREATE TABLE kept (a int)")
        for setting, value in (("fsync", "on"), ("max_connections", "200"), ("listen_addresses", "127.0.0.1")):
            assert connection.execute(f"SHOW {setting}").fetchone() == (value,)
    for number, end in enumerate((server.stop, server.kill)):
        with connect(server) as connection:
            connection.execute("INSERT INTO kept VALUES (%s)", [number])
        end()
        assert not server.is_ready()
        server.start(dies_with_parent=True)
    with connect(server) as connection:
        assert connection.execute("SELECT array_agg(a ORDER BY a) FROM kept").fetchone() == ([0, 1],)


def test_a_stop_does_not_wait_for_those_who_are_connected(server: Postgres) -> None:
    with connect(server) as connection:
        server.stop()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_a_pause_stops_every_session_and_a_kill_ends_every_one(server: Postgres) -> None:
    with connect(server) as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        status = Path(f"/proc/{row[0]}/status")
        server.send(signal.SIGSTOP)
        assert "State:\tT" in status.read_text()
        server.send(signal.SIGCONT)
        assert connection.execute("SELECT 1").fetchone() == (1,)
        server.kill()
        # Gone, or waiting for whoever took it over to notice.
        assert not status.exists() or "State:\tZ" in status.read_text()


def test_a_database_is_copied_from_another(server: Postgres) -> None:
    with connect(server) as connection:
        connection.execute("CREATE TABLE kept (a int)")
    url = server.create_database("copy", template="baldistill")
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    server.drop_database("copy")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url.replace("+psycopg", ""))


STARTER = """
import sys
from pathlib import Path
from baldistill.local_stack.postgres import make_postgres

server = make_postgres(Path(sys.argv[1]), port=int(sys.argv[2]))
server.start(dies_with_parent=True)
print("up", flush=True)
sys.stdin.readline()
"""


def test_it_dies_with_its_parent_where_it_was_asked_to(server: Postgres) -> None:
    # The fixture's own server is started by another process here, which is then killed.
    server.stop()
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(server.home), str(server.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        assert server.is_ready()
        starter.kill()
    give_up_at = time.monotonic() + 10
    while server.is_ready() and time.monotonic() < give_up_at:
        time.sleep(0.05)
    assert not server.is_ready()


@pytest.mark.skipif(not AS_ROOT, reason="only root runs it as another user")
def test_a_folder_that_its_user_cannot_enter_keeps_the_data_elsewhere() -> None:
    closed = Path(tempfile.mkdtemp(prefix="baldistill-closed-"))  # 0700
    server = make_postgres(closed, port=free_port(), durable=False)
    assert not server.home.is_relative_to(closed)
    try:
        server.start(dies_with_parent=True)
        assert (server.home / "data").stat().st_uid == pwd.getpwnam("postgres").pw_uid
        # Found again by the folder that was named.
        assert make_postgres(closed, port=server.port, durable=False).is_ready()
    finally:
        server.delete()
        shutil.rmtree(closed)


def test_where_it_cannot_be_installed_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(ServerMissing, match=r"^PostgreSQL is not installed; run `apt-get install postgresql`"):
        debian.find_or_install("postgresql", wanted_for="PostgreSQL", find=_nothing)


@pytest.mark.skipif(not AS_ROOT, reason="only root installs packages")
def test_a_package_that_does_not_exist_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installing, "_PAUSES_S", (0.0, 0.0))
    # A distribution without any package.
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    (tmp_path / "apt.conf").write_text(
        f'Dir::State::lists "{tmp_path}/lists";\nDir::Etc::sourcelist "/dev/null";\n'
        'Dir::Etc::sourceparts "/dev/null";\nDir::Cache "";\n'
    )
    with pytest.raises(ServerMissing, match="could not be installed") as caught:
        debian.find_or_install("no-such-package-of-ours", wanted_for="PostgreSQL", find=_nothing)
    assert "\n" not in str(caught.value)


def _nothing() -> None:
    """Find no program."""
