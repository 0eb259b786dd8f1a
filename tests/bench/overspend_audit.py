"""What is asked of a ledger and a provider after a storm: money, holds, and each attempt by its id (DESIGN 4)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from baldistill.database.transactions import reading
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.adapters.sql_tables import HOLDS, REPLIES
from services.teacher_gateway.ledger.budgets import UNITS, BudgetPath, BudgetStatus
from services.teacher_gateway.ledger.holds import HoldState

_OPEN = (HoldState.HELD.value, HoldState.SENT.value)
_LEFT = (HoldState.SENT.value, HoldState.SETTLED.value, HoldState.UNKNOWN.value)
# Dead owners are taken after two leases and their calls' deadline.
_SETTLES_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """overspend_nano_usd: spent and held above any ceiling, at the end.   explained by id: seen, stored, unknown."""

    overspend_nano_usd: int
    leaked_holds: int
    paid_twice: int
    unexplained_calls: int
    seen: int
    stored: int
    unknown: int


def overspent(tree: Sequence[BudgetStatus]) -> int:
    """Return what is spent and held above ceilings, all budgets together; tokens and calls count as nano-USD do."""
    beyond = 0
    for status in tree:
        for unit in UNITS:
            ceiling = getattr(status.ceilings, unit)
            if ceiling is not None:
                beyond += max(0, getattr(status.spent, unit) + getattr(status.held, unit) - ceiling)
    return beyond


def audit(engine: Engine, ledger: SqlLedger, *, tenant: str, seen: Sequence[str]) -> Audit:
    """Wait until nothing is under way, then ask."""
    path = BudgetPath(tenant=tenant)
    leaked = _wait_for_holds(engine)
    tree = ledger.budget_tree(path)
    held = sum(getattr(status.held, unit) for status in tree for unit in UNITS)
    attempts = ledger.attempts(path)
    stored = {one.request_id for one in attempts if one.state is HoldState.SETTLED}
    unknown = {one.request_id for one in attempts if one.state is HoldState.UNKNOWN}
    counted = Counter(seen)
    arrived_twice = sum(times - 1 for times in counted.values())
    unexplained = len(counted.keys() - stored - unknown) + len(stored - counted.keys()) + arrived_twice
    return Audit(
        overspend_nano_usd=overspent(tree),
        leaked_holds=leaked + (held != 0),
        paid_twice=_paid_twice(engine),
        unexplained_calls=unexplained,
        seen=len(seen),
        stored=len(stored),
        unknown=len(unknown),
    )


def _wait_for_holds(engine: Engine) -> int:
    """Return the holds that are open for longer than any may be."""
    give_up_at = time.monotonic() + _SETTLES_WITHIN_S
    while True:
        with reading(engine) as connection:
            asked = select(func.count()).select_from(HOLDS).where(HOLDS.c.state.in_(_OPEN))
            open_holds = int(connection.execute(asked).scalar_one())
        if not open_holds or time.monotonic() > give_up_at:
            return open_holds
        time.sleep(0.5)


def _paid_twice(engine: Engine) -> int:
    """Return the attempts that were made of a key whose answer was stored already."""
    joined = HOLDS.join(REPLIES, REPLIES.c.request_key == HOLDS.c.request_key)
    later = (HOLDS.c.attempt != REPLIES.c.attempt, HOLDS.c.reserved_at_ms > REPLIES.c.stored_at_ms)
    asked = select(func.count()).select_from(joined).where(HOLDS.c.state.in_(_LEFT), *later)
    with reading(engine) as connection:
        return int(connection.execute(asked).scalar_one())
