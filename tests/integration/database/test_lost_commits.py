"""A connection that breaks exactly at COMMIT loses nothing and does nothing twice (ADR 13)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, make_url, text

from baldistill.artifacts.ports import ArtifactRef
from baldistill.database.engine import open_database, reading
from baldistill.database.transactions import TransactionLost, retrying
from baldistill.events.facts import RunState
from baldistill.tasks.bounds import CallBound
from baldistill.testing.cutting_proxy import Cut, CuttingProxy
from baldistill.testing.postgres_server import drop_database, fresh_database, shared_postgres
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.ports import RunRecord
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import Amounts, BudgetPath, Ceilings
from services.teacher_gateway.ledger.holds import Booking, HoldState, InFlight, Reply, Reserved, ReserveRequest

RUN = BudgetPath(tenant="acme", run_id="r1")
BOUND = CallBound(calls=1, prompt_tokens=60, completion_tokens=40, nano_usd=500)
ANSWER = Reply(attempt=1, model="m", text="yes", finish_reason="stop", prompt_tokens=20, completion_tokens=10)
SETTLED = Booking(state=HoldState.SETTLED, outcome="answered", reply=ANSWER, tokens=30, nano_usd=150)

EVERY_CUT = pytest.mark.parametrize("cut", list(Cut), ids=lambda cut: cut.value)


@pytest.fixture
def proxy() -> Iterator[CuttingProxy]:
    with CuttingProxy(shared_postgres().port) as proxy:
        yield proxy


@pytest.fixture
def engine(proxy: CuttingProxy) -> Iterator[Engine]:
    url = fresh_database()
    engine = open_database(make_url(url).set(port=proxy.port).render_as_string(hide_password=False))
    yield engine
    engine.dispose()
    drop_database(url)


@pytest.fixture
def ledger(engine: Engine) -> Iterator[SqlLedger]:
    ledger = SqlLedger(engine)
    ledger.ensure_budget(RUN, ceilings=Ceilings(calls=10), actor="test")
    yield ledger
    ledger.close()


def wanted(key: str) -> ReserveRequest:
    path = BudgetPath(tenant="acme", run_id="r1", stage=1, domain="billing")
    return ReserveRequest(
        request_key=key,
        prompt_sha256="p",
        path=path,
        bound=BOUND,
        price_version="v1",
        send_within_ms=60_000,
        call_timeout_ms=60_000,
    )


def trail(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return list(connection.execute(text("SELECT action FROM ledger_audit ORDER BY audit_id")).scalars())


@EVERY_CUT
def test_a_group_that_was_reserved_finds_its_own_holds(ledger: SqlLedger, proxy: CuttingProxy, cut: Cut) -> None:
    proxy.cut_next(cut)
    outcomes = ledger.reserve([wanted("a"), wanted("b"), wanted("a")])
    assert [type(one) for one in outcomes] == [Reserved, Reserved, InFlight]
    assert proxy.cuts_done == 1
    assert ledger.budget_tree(RUN)[0].held == Amounts(calls=2, tokens=200, nano_usd=1000)
    assert [(one.request_key, one.attempt) for one in ledger.attempts(RUN)] == [("a", 1), ("b", 1)]


@EVERY_CUT
def test_a_call_that_was_marked_and_booked_is_so_once(ledger: SqlLedger, proxy: CuttingProxy, cut: Cut) -> None:
    (reserved,) = ledger.reserve([wanted("a")])
    assert isinstance(reserved, Reserved)
    proxy.cut_next(cut)
    assert ledger.mark_sent(reserved)
    # Another call for the same hold is another sending: no.
    assert not ledger.mark_sent(reserved)
    proxy.cut_next(cut, cut)
    assert ledger.book(reserved, SETTLED) is HoldState.SETTLED
    assert proxy.cuts_done == 3
    assert ledger.budget_tree(RUN)[0].spent == Amounts(calls=1, tokens=30, nano_usd=150)
    assert ledger.budget_tree(RUN)[0].held == Amounts()
    assert ledger.find_reply("a") == ANSWER


@EVERY_CUT
def test_a_reserve_that_is_sent_at_once_is_so_once(ledger: SqlLedger, proxy: CuttingProxy, cut: Cut) -> None:
    proxy.cut_next(cut)
    (reserved,) = ledger.reserve([dataclasses.replace(wanted("a"), send_at_once=True)])
    assert isinstance(reserved, Reserved)
    assert (reserved.sent, proxy.cuts_done) == (True, 1)
    assert [one.state for one in ledger.attempts(RUN)] == [HoldState.SENT]


@EVERY_CUT
def test_a_reserve_that_was_given_up_holds_nothing_once_the_database_is_back(
    ledger: SqlLedger, proxy: CuttingProxy, cut: Cut
) -> None:
    proxy.cut_next(*[cut] * 5)  # as often as a transaction is tried
    with pytest.raises(TransactionLost):
        ledger.reserve([dataclasses.replace(wanted("a"), send_at_once=True)])
    # Whatever was applied of it: nothing of it was sent.
    ledger.beat()
    assert ledger.budget_tree(RUN)[0].held == Amounts()
    assert {one.state for one in ledger.attempts(RUN)} <= {HoldState.RELEASED}
    (again,) = ledger.reserve([wanted("a")])
    assert isinstance(again, Reserved)


@EVERY_CUT
def test_a_budget_is_made_and_topped_up_once(ledger: SqlLedger, engine: Engine, proxy: CuttingProxy, cut: Cut) -> None:
    other = BudgetPath(tenant="acme", run_id="r2")
    proxy.cut_next(cut)
    assert ledger.ensure_budget(other, ceilings=Ceilings(calls=1), actor="test")
    proxy.cut_next(cut, cut)
    ledger.top_up(other, calls=5, actor="anna")
    proxy.cut_next(cut)
    ledger.freeze(other, actor="anna")
    assert proxy.cuts_done == 4
    assert ledger.budget_tree(other)[0].ceilings == Ceilings(calls=6)
    assert trail(engine) == ["create", "create", "create", "top_up", "freeze"]


@EVERY_CUT
def test_an_owner_that_registered_can_work_and_ends(engine: Engine, proxy: CuttingProxy, cut: Cut) -> None:
    proxy.cut_next(cut)
    ledger = SqlLedger(engine)
    ledger.ensure_budget(RUN, ceilings=Ceilings(calls=10), actor="test")
    ledger.reserve([wanted("a")])
    proxy.cut_next(cut)
    ledger.close()
    assert proxy.cuts_done == 2
    assert [one.state for one in ledger.attempts(RUN)] == [HoldState.RELEASED]


@EVERY_CUT
def test_a_run_advances_once_and_its_mover_knows(engine: Engine, proxy: CuttingProxy, cut: Cut) -> None:
    registry = SqlRunRegistry(engine)
    new = RunRecord(
        tenant="acme",
        run_id="r-1",
        name="r",
        spec=ArtifactRef(key="k", sha256="00", size_bytes=7),
        state=RunState.RUNNING,
        epoch=1,
        stage=0,
        baseline_evaluated=False,
        budget_exhausted=False,
        brought_here_by="",
        reason="",
    )
    proxy.cut_next(cut)
    assert registry.create(new) == new
    moved = dataclasses.replace(new, stage=1, brought_here_by="event-1")
    proxy.cut_next(cut)
    assert registry.replace(expected=new, changed=moved)
    assert proxy.cuts_done == 2
    # Whoever comes later from the same place is still refused.
    assert not registry.replace(expected=new, changed=dataclasses.replace(moved, brought_here_by="event-2"))
    assert registry.find(tenant="acme", run_id="r-1") == moved


def test_a_transaction_that_is_lost_again_and_again_is_given_up(engine: Engine, proxy: CuttingProxy) -> None:
    proxy.cut_next(*[Cut.BEFORE] * 5)
    with pytest.raises(TransactionLost):
        retrying(engine, lambda connection: connection.execute(text("CREATE TABLE one (a int)")))
    assert proxy.cuts_done == 5
    with reading(engine) as connection:
        assert connection.execute(text("SELECT to_regclass('one')")).scalar_one() is None
