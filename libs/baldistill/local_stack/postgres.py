"""PostgreSQL from the distribution, in a folder of its own, on a TCP port of the loopback."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tomllib
from pathlib import Path

import psycopg
from psycopg import sql

from baldistill.local_stack.debian import find_or_install
from baldistill.local_stack.server_process import ServerFailed, ServerProcess

_VERSIONS = Path(__file__).with_name("versions.toml")
# PostgreSQL refuses to run as root; the distribution's package makes this user.
_USER = "postgres"
_SUPERUSER = "baldistill"
_MAX_CONNECTIONS = 200
# Where a folder below, say, /root cannot be entered by that user, what the server keeps lies here.
_HOMES = Path("/var/lib/baldistill-postgres")


class Postgres:
    """One server with one database for BalDistill. Everybody on the loopback is let in: for one person's machine."""

    def __init__(self, *, home: Path, port: int, programs: Path, database: str, durable: bool) -> None:
        self.port = port
        self._database = database
        self._home = home
        self._programs = programs
        self._durable = durable
        self.process = ServerProcess(
            name="PostgreSQL",
            folder=home,
            command=[
                str(programs / "postgres"), "-D", str(self._data), "-p", str(port), "-c", "listen_addresses=127.0.0.1",
                "-c", "unix_socket_directories=", "-c", f"max_connections={_MAX_CONNECTIONS}",
                "-c", f"fsync={'on' if durable else 'off'}",
            ],
            is_ready=self._answers,
            user=_USER,
            # SIGTERM would wait until every client has gone away by itself.
            stop_signal=signal.SIGINT,
        )  # fmt: skip

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of BalDistill's database."""
        return self.url_of(self._database)

    @property
    def home(self) -> Path:
        """Where data, log and process id lie."""
        return self._home

    def url_of(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database of this server."""
        return f"postgresql+psycopg://{_SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def start(self, *, timeout_s: float = 60.0, dies_with_parent: bool = False) -> None:
        """Start the server, with its database, and wait until it answers. Raises ServerFailed."""
        if not self._data.is_dir():
            self._make_data()
        self.process.start(timeout_s=timeout_s, dies_with_parent=dies_with_parent)
        with self._administer() as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self._database]).fetchone()
        if known is None:
            self.create_database(self._database)

    def is_ready(self) -> bool:
        """Ask the server whether it answers queries."""
        return self.process.is_ready()

    def stop(self) -> None:
        """End it: open transactions are rolled back, what was committed is written. Idempotent."""
        self.process.stop()

    def kill(self) -> None:
        """End it and all its sessions by SIGKILL. Idempotent."""
        self.process.kill()

    def send(self, signal_number: signal.Signals) -> None:
        """Send a signal to the server and all its sessions, e.g. SIGSTOP and SIGCONT."""
        self.process.send(signal_number)

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Make a database, a copy of `template` where one is given (nobody may be connected to it). Return its URL."""
        copied = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        with self._administer() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + copied)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Delete a database with whoever is connected to it."""
        with self._administer() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def delete(self) -> None:
        """Kill the server and delete all it keeps."""
        self.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._home / "data"

    def _administer(self) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=_SUPERUSER, dbname="postgres", autocommit=True, connect_timeout=3
        )

    def _answers(self) -> bool:
        try:
            with self._administer() as connection:
                return connection.execute("SELECT 1").fetchone() is not None
        except psycopg.Error:
            return False

    def _make_data(self) -> None:
        """Run initdb beside the final place: a folder that is there is whole."""
        half_made = self._home / "data.new"
        shutil.rmtree(half_made, ignore_errors=True)
        half_made.mkdir(parents=True, mode=0o700)
        as_user = _as_user()
        if as_user:
            shutil.chown(half_made, user=_USER, group=_USER)
        command = [
            *as_user, str(self._programs / "initdb"), "-D", str(half_made), "-U", _SUPERUSER, "--auth=trust",
            # Text is ordered by its bytes, as on SQLite.
            "--encoding=UTF8", "--no-locale", "--no-instructions", *(() if self._durable else ("--no-sync",)),
        ]  # fmt: skip
        log = self._home / "log"
        with log.open("ab") as output:
            made = subprocess.run(command, check=False, stdout=output, stderr=output, cwd=self._home)  # noqa: S603
        if made.returncode != 0:
            raise ServerFailed(name="PostgreSQL", reason="could not make its data folder", log=log)
        half_made.rename(self._data)


def make_postgres(folder: Path, *, port: int, database: str = "baldistill", durable: bool = True) -> Postgres:
    """Return a server that keeps its data in `folder`, or, where its user cannot enter that, in /var/lib.

    durable: False: no fsync, for tests that kill the server but not the machine. Raises ServerMissing.
    """
    programs = postgres_programs()
    home = folder.absolute()
    if _as_user() and not _may_enter(home, user=pwd.getpwnam(_USER)):
        home = _HOMES / hashlib.sha256(str(home).encode()).hexdigest()[:16]
    return Postgres(home=home, port=port, programs=programs, database=database, durable=durable)


def postgres_programs() -> Path:
    """Return the folder of the newest server programs; the distribution's are installed where there are none.

    Raises ServerMissing.
    """
    if _found_programs() is None:
        _forbid_the_packages_own_cluster()
    package = tomllib.loads(_VERSIONS.read_text())["postgres"]["package"]
    return find_or_install(package, wanted_for="PostgreSQL", find=_found_programs)


def _forbid_the_packages_own_cluster() -> None:
    settings = Path("/etc/postgresql-common/createcluster.conf")
    if os.geteuid() == 0 and not settings.exists():
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text("create_main_cluster = false\n")


def _found_programs() -> Path | None:

    def version(folder: Path) -> float:
        return float(folder.parent.name)

    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version, reverse=True):
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


def _as_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid", _USER, "--regid", _USER, "--init-groups", "--"]


def _may_enter(folder: Path, *, user: pwd.struct_passwd) -> bool:
    """Tell whether a user may go through every folder above (those that are not there yet are ours to make)."""
    for place in [folder, *folder.parents]:
        if place.exists():
            status = place.stat()
            bit = 0o100 if status.st_uid == user.pw_uid else 0o010 if status.st_gid == user.pw_gid else 0o001
            if not status.st_mode & bit:
                return False
    return True
