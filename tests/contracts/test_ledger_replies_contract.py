"""Stored replies of the ledger, and what follows when they are deleted, over every database."""

from __future__ import annotations

from sqlalchemy import Engine, text

from baldistill.database.engine import reading
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.adapters.sql_replies import count_replies, delete_replies
from services.teacher_gateway.ledger.budgets import (
    BudgetPath,
    Ceilings,
)
from services.teacher_gateway.ledger.holds import (
    AlreadyStored,
    HoldState,
    PromptMismatch,
    Refused,
)
from tests.contracts.ledger_words import RUN, answered, sent, status, wanted


def test_a_deleted_reply_may_be_bought_again_as_a_new_attempt(ledger: SqlLedger, engine: Engine) -> None:
    for key in "ab":
        ledger.book(sent(ledger, key), answered(key))
    assert delete_replies(engine, RUN, actor="test") == 2
    assert (delete_replies(engine, RUN, actor="test"), ledger.find_reply("a")) == (0, None)
    # What was spent stays spent: one of three calls is left.
    assert status(ledger).spent.calls == 2
    again = sent(ledger, "a")
    assert again.attempt == 2
    assert ledger.book(again, answered("anew")) is HoldState.SETTLED
    reply = ledger.find_reply("a")
    assert reply is not None
    assert reply.text == "anew"
    (stored, refused) = ledger.reserve([wanted("a"), wanted("b")])
    assert isinstance(stored, AlreadyStored)
    assert isinstance(refused, Refused)
    assert [(one.request_key, one.attempt) for one in ledger.attempts(RUN)] == [("a", 1), ("b", 1), ("a", 2)]


def test_a_deleted_reply_is_not_bought_with_another_prompt(ledger: SqlLedger, engine: Engine) -> None:
    ledger.book(sent(ledger, "k"), answered())
    delete_replies(engine, RUN, actor="test")
    (outcome,) = ledger.reserve([wanted("k", prompt="another")])
    assert isinstance(outcome, PromptMismatch)


def test_only_the_replies_of_one_run_are_deleted(ledger: SqlLedger, engine: Engine) -> None:
    other = BudgetPath(tenant="acme", run_id="r2")
    ledger.ensure_budget(other, ceilings=Ceilings(), actor="test")
    ledger.book(sent(ledger, "mine"), answered())
    ledger.book(sent(ledger, "theirs", path=BudgetPath(tenant="acme", run_id="r2", stage=1, domain="d")), answered())
    assert (count_replies(engine, RUN), count_replies(engine, other)) == (1, 1)
    assert delete_replies(engine, RUN, actor="test") == 1
    assert ledger.find_reply("theirs") is not None
    with reading(engine) as connection:
        audited = connection.execute(text("SELECT details FROM ledger_audit WHERE action = 'replies_deleted'")).all()
    assert [row.details for row in audited] == ['{"replies": 1}']
