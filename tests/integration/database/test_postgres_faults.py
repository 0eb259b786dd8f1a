"""A PostgreSQL that goes away in the middle: refused by name, nothing half done, at work again by itself."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, make_url, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from baldistill.database.engine import open_database, reading, writing
from baldistill.database.exclusive import exclusively
from baldistill.database.together import Prepared, Run, run_together
from baldistill.database.transactions import TransactionLost, retrying
from baldistill.database.turns import ReportingTurn
from baldistill.errors import DependencyUnavailable, StorageFull
from baldistill.local_stack.postgres import Postgres, make_postgres
from baldistill.local_stack.server_process import free_port


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="baldistill-postgres-"))
    folder.chmod(0o755)
    server = make_postgres(folder, port=free_port())
    server.start(dies_with_parent=True)
    yield server
    server.delete()


@pytest.fixture
def engine(server: Postgres) -> Iterator[Engine]:
    server.start(dies_with_parent=True)
    engine = open_database(server.url)
    with writing(engine) as connection:
        connection.execute(text("DROP TABLE IF EXISTS notes"))
        connection.execute(text("CREATE TABLE notes (note int PRIMARY KEY, seen int NOT NULL DEFAULT 0)"))
    yield engine
    engine.dispose()


def write(engine: Engine, note: int) -> None:
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO notes VALUES (:note)"), {"note": note})


def notes(engine: Engine) -> list[int]:
    with reading(engine) as connection:
        return list(connection.execute(text("SELECT note FROM notes ORDER BY note")).scalars())


def test_a_session_keeps_the_promises_of_the_ledger(engine: Engine) -> None:
    with writing(engine) as connection:
        for setting, value in (
            ("transaction_isolation", "read committed"),
            ("synchronous_commit", "on"),
            ("lock_timeout", "2s"),
            ("idle_in_transaction_session_timeout", "5s"),
            ("statement_timeout", "30s"),
        ):
            assert connection.execute(text(f"SHOW {setting}")).scalar_one() == value
    with reading(engine) as connection:
        assert connection.execute(text("SHOW transaction_isolation")).scalar_one() == "repeatable read"


def test_a_server_that_was_restarted_costs_no_request(engine: Engine, server: Postgres) -> None:
    for end in (server.stop, server.kill):
        notes(engine)
        end()
        with pytest.raises(DependencyUnavailable, match=f"127.0.0.1:{server.port}"):
            notes(engine)
        server.start(dies_with_parent=True)
    # The pool holds connections to the server that is gone.
    with ThreadPoolExecutor(max_workers=6) as threads:
        barrier = threading.Barrier(6)
        list(threads.map(lambda _: (barrier.wait(), notes(engine)), range(6)))
    server.stop()
    server.start(dies_with_parent=True)
    for number in range(6):
        write(engine, number)
    assert notes(engine) == list(range(6))


def _write_around(engine: Engine, end: Callable[[], None]) -> None:
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO notes VALUES (2)"))
        end()
        connection.execute(text("INSERT INTO notes VALUES (3)"))


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_was_not_committed_when_the_server_ended_was_never_done(
    engine: Engine, server: Postgres, end: str
) -> None:
    write(engine, 1)
    with pytest.raises(TransactionLost):
        _write_around(engine, getattr(server, end))
    server.start(dies_with_parent=True)
    assert notes(engine) == [1]


def test_a_paused_server_is_waited_for_by_the_connected_and_refused_to_the_new(
    engine: Engine, server: Postgres
) -> None:
    notes(engine)
    server.send(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(max_workers=1) as threads:
            waiting = threads.submit(write, engine, 7)
            newcomer = open_database(server.url)
            with pytest.raises(DependencyUnavailable, match="timeout"):
                notes(newcomer)
            newcomer.dispose()
            assert not waiting.done()
            server.send(signal.SIGCONT)
            waiting.result(timeout=10)
    finally:
        server.send(signal.SIGCONT)
    assert notes(engine) == [7]


def test_a_lock_that_is_not_given_is_an_unavailable_database(engine: Engine) -> None:
    write(engine, 1)
    update = text("UPDATE notes SET seen = seen + 1")
    with writing(engine) as holder:
        holder.execute(update)
        with pytest.raises(DependencyUnavailable, match="lock timeout"), writing(engine) as second:
            second.execute(update)


def test_who_idles_in_a_transaction_is_thrown_out_and_comes_again(engine: Engine) -> None:
    tries = []

    def work(connection: Connection) -> None:
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '100ms'"))
        connection.execute(text("INSERT INTO notes VALUES (1)"))
        tries.append(connection)
        if len(tries) == 1:
            time.sleep(0.5)
        connection.execute(text("INSERT INTO notes VALUES (2)"))

    retrying(engine, work)
    assert (len(tries), notes(engine)) == (2, [1, 2])


def test_of_two_that_wait_for_each_other_both_get_done(engine: Engine) -> None:
    for note in (1, 2):
        write(engine, note)
    met = threading.Barrier(2)
    first_try = threading.local()

    def update_both(order: tuple[int, int]) -> None:
        def work(connection: Connection) -> None:
            for place, note in enumerate(order):
                connection.execute(text("UPDATE notes SET seen = seen + 1 WHERE note = :note"), {"note": note})
                if place == 0 and not hasattr(first_try, "done"):
                    first_try.done = True
                    met.wait(timeout=10)

        retrying(engine, work)

    with ThreadPoolExecutor(max_workers=2) as threads:
        list(threads.map(update_both, [(1, 2), (2, 1)]))
    with reading(engine) as connection:
        assert list(connection.execute(text("SELECT seen FROM notes")).scalars()) == [2, 2]


def test_a_server_without_room_for_another_client_is_unavailable(engine: Engine, server: Postgres) -> None:
    with writing(engine) as connection:
        connection.execute(text("DROP ROLE IF EXISTS lonely"))
        connection.execute(text("CREATE ROLE lonely LOGIN CONNECTION LIMIT 1"))
    url = make_url(server.url).set(username="lonely").render_as_string(hide_password=False)
    first, second = open_database(url), open_database(url)
    with reading(first), pytest.raises(DependencyUnavailable, match="too many connections"), reading(second):
        pytest.fail("a second client was let in")
    first.dispose()
    second.dispose()


def fail_with(engine: Engine, code: str) -> None:
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO notes VALUES (1)"))
        connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'told to' USING ERRCODE = '{code}'; END $$"))


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("53100", StorageFull),
        ("53200", DependencyUnavailable),
        ("40001", TransactionLost),
        ("57P03", DependencyUnavailable),
    ],
)
def test_what_the_server_says_is_told_by_its_meaning(engine: Engine, code: str, verdict: type[Exception]) -> None:
    with pytest.raises(verdict):
        fail_with(engine, code)
    assert notes(engine) == []


def test_our_own_mistakes_stay_what_they_are(engine: Engine) -> None:
    with pytest.raises(ProgrammingError), writing(engine) as connection:
        connection.execute(text("SELECT nothing FROM nowhere"))
    with pytest.raises(DBAPIError, match="read-only transaction"), reading(engine) as connection:
        connection.execute(text("INSERT INTO notes VALUES (1)"))


def test_more_threads_than_connections_wait_their_turn(engine: Engine) -> None:
    with ThreadPoolExecutor(max_workers=40) as threads:
        list(threads.map(lambda note: write(engine, note), range(200)))
    assert notes(engine) == list(range(200))


def test_who_reports_gauges_is_silent_while_the_server_is_away_and_goes_on_when_it_is_back(
    engine: Engine, server: Postgres
) -> None:
    turn = ReportingTurn(partial(exclusively, engine, "gauges"), handover_s=0, turn_s=0.2, ask_every_s=0.1)
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as threads:
        running = threads.submit(turn.run, stop)
        try:
            wait_for(turn, is_ours=True)
            server.kill()
            wait_for(turn, is_ours=False)
            server.start(dies_with_parent=True)
            wait_for(turn, is_ours=True)
            assert running.running()
        finally:
            stop.set()
    assert running.exception() is None


def wait_for(turn: ReportingTurn, *, is_ours: bool) -> None:
    give_up_at = time.monotonic() + 30
    while turn.is_ours is not is_ours:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def cut_off(connection: Connection, engine: Engine) -> None:
    """Have the server end a connection in its transaction."""
    pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with writing(engine) as other:
        other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})


def test_statements_in_one_round_trip_fail_like_others(engine: Engine) -> None:
    changing = Run(Prepared(text("UPDATE notes SET seen = seen + 1")), [{}])
    write(engine, 1)
    with writing(engine) as first:
        first.execute(text("UPDATE notes SET seen = 1"))
        with pytest.raises(DependencyUnavailable, match="lock timeout"), writing(engine) as second:
            run_together(second, [changing])

    def change_on_a_cut_connection() -> None:
        with writing(engine) as connection:
            cut_off(connection, engine)
            run_together(connection, [changing])

    with pytest.raises(TransactionLost):
        change_on_a_cut_connection()
    # Neither left a connection behind that serves nobody.
    with writing(engine) as connection:
        assert run_together(connection, [changing])[0].changed == 1


def test_a_transaction_in_one_round_trip_that_was_cut_is_repeated(engine: Engine) -> None:
    cuts: list[int] = []

    def work(connection: Connection) -> int:
        if not cuts:
            cuts.append(1)
            cut_off(connection, engine)
        adding = Prepared(text("INSERT INTO notes VALUES (7) ON CONFLICT DO NOTHING"))
        return run_together(connection, [Run(adding, [{}])])[0].changed

    assert retrying(engine, work) == 1
    assert notes(engine) == [7]


def test_whatever_the_server_was_saying_when_it_ended_the_transaction_is_lost(engine: Engine) -> None:
    """About one end in a hundred falls between two answers of a round trip, where the driver can no longer be used."""
    looking = Run(Prepared(text("SELECT count(*) FROM notes")), [{}, {}])
    ended = threading.Event()

    def look_until_ended() -> list[type[Exception]]:
        told = []
        while not ended.is_set():
            try:
                with writing(engine) as connection:
                    while not ended.is_set():
                        run_together(connection, [looking])
            except Exception as error:  # noqa: BLE001  (which one it is, is what is asked)
                told.append(type(error))
        return told

    others = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state IS NOT NULL AND pid <> pg_backend_pid()"
    )
    ender = open_database(engine.url.render_as_string(hide_password=False))
    with ThreadPoolExecutor(max_workers=1) as threads:
        looking_on = threads.submit(look_until_ended)
        try:
            for _ in range(1_200):
                with writing(ender) as connection:
                    connection.execute(others)
                time.sleep(0.002)
        finally:
            ended.set()
            ender.dispose()
        told = looking_on.result(timeout=30)
    assert len(told) > 100
    assert set(told) == {TransactionLost}
