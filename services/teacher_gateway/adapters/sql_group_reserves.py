"""A group of reserves in SQL: read under locks, proposed, inserted together, held by one guarded update a window (ADR 30)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from baldistill.database.membership import ByIds
from baldistill.database.together import Prepared, Ran, Run, rows_given
from services.teacher_gateway.adapters.sql_counters import fits
from services.teacher_gateway.adapters.sql_settlement import WINDOW_COLUMNS, reply_of
from services.teacher_gateway.adapters.sql_tables import HOLDS, REPLIES, WINDOWS
from services.teacher_gateway.ledger.budgets import UNITS, BudgetState
from services.teacher_gateway.ledger.granting import Grant, LastAttempt, held_by_window
from services.teacher_gateway.ledger.holds import HoldState, Reserved

_ATTEMPTS = (
    select(
        HOLDS.c.hold_id,
        HOLDS.c.request_key,
        HOLDS.c.attempt.label("hold_attempt"),
        HOLDS.c.state,
        HOLDS.c.prompt_sha256,
        HOLDS.c.reserve_id,
        REPLIES.c.attempt,
        REPLIES.c.model,
        REPLIES.c.text,
        REPLIES.c.finish_reason,
        REPLIES.c.prompt_tokens,
        REPLIES.c.completion_tokens,
    )
    .select_from(HOLDS.outerjoin(REPLIES, REPLIES.c.request_key == HOLDS.c.request_key))
    .order_by(HOLDS.c.attempt)
)
_LAST = ByIds(HOLDS.c.request_key, _ATTEMPTS.where)
_MADE = [
    column for column in HOLDS.c if column.name not in ("hold_id", "ended_at_ms", "booked_tokens", "booked_nano_usd")
]
_GRANTED = rows_given({column.name: column.type for column in _MADE})
_INSERT = Prepared(
    sqlite.insert(HOLDS)
    .on_conflict_do_nothing(index_elements=["request_key", "attempt"])
    .returning(HOLDS.c.reserve_id, HOLDS.c.hold_id),
    postgresql.insert(HOLDS)
    .from_select([column.name for column in _MADE], select(_GRANTED))
    .on_conflict_do_nothing(index_elements=["request_key", "attempt"])
    .returning(HOLDS.c.reserve_id, HOLDS.c.hold_id),
    in_one_statement=True,
)
_HELD = rows_given({"of_window": BigInteger(), **{f"more_{unit}": BigInteger() for unit in UNITS}})
# The reading before only proposed it: amounts are held in a window that is open and whose ceilings allow it.
_HOLD_MORE = Prepared(
    update(WINDOWS)
    .where(
        WINDOWS.c.window_id == bindparam("of_window"),
        WINDOWS.c.state == BudgetState.OPEN.value,
        fits({unit: bindparam(f"more_{unit}") for unit in UNITS}),
    )
    .values({f"held_{unit}": WINDOWS.c[f"held_{unit}"] + bindparam(f"more_{unit}") for unit in UNITS}),
    update(WINDOWS)
    .where(
        WINDOWS.c.window_id == _HELD.c.of_window,
        WINDOWS.c.state == BudgetState.OPEN.value,
        fits({unit: _HELD.c[f"more_{unit}"] for unit in UNITS}),
    )
    .values({f"held_{unit}": WINDOWS.c[f"held_{unit}"] + _HELD.c[f"more_{unit}"] for unit in UNITS}),
    in_one_statement=True,
)


def finding_attempts(connection: Connection, keys: Collection[str]) -> Run:
    """Return the statement that reads the attempts of keys. Only under the locks that an earlier try held too (ADR 13)."""
    return _LAST.run(connection, keys)


def last_attempts(found: Ran) -> dict[str, LastAttempt]:
    """Read what `finding_attempts` brought."""
    # In the order of attempts: the newest of a key comes last and stays.
    return {row["request_key"]: _last_attempt(row) for row in found.rows}


def granting_together(grants: Sequence[Grant], *, owner_id: str, now_ms: int) -> list[tuple[Run, int | None]]:
    """Return the statements that hold what was granted in windows whose locks the caller took.

    Each with how many rows it must change: less where another replica took an attempt since we looked (as around midnight,
    when windows are locked apart), or a window was not as it was read.
    """
    rows = [_values(grant, owner_id=owner_id, now_ms=now_ms) for grant in grants]
    held = [
        {"of_window": window_id, **{f"more_{unit}": getattr(amounts, unit) for unit in UNITS}}
        for window_id, amounts in held_by_window(grants).items()
    ]
    return [(Run(_INSERT, rows), len(rows)), (Run(_HOLD_MORE, held), len(held))]


def reserved_by_id(grants: Sequence[Grant], inserted: Ran) -> dict[str, Reserved]:
    """Return by reserve id what grants became. inserted: what the first statement of `granting_together` brought."""
    ids = {row["reserve_id"]: row["hold_id"] for row in inserted.rows}
    return {
        grant.asked.reserve_id: Reserved(
            hold_id=ids[grant.asked.reserve_id],
            request_key=grant.asked.request.request_key,
            attempt=grant.attempt,
            sent=grant.asked.request.send_at_once,
        )
        for grant in grants
    }


def _last_attempt(row: Mapping[Any, Any]) -> LastAttempt:
    return LastAttempt(
        hold_id=row["hold_id"],
        attempt=row["hold_attempt"],
        state=HoldState(row["state"]),
        prompt_sha256=row["prompt_sha256"],
        reserve_id=row["reserve_id"] or "",
        reply=None if row["attempt"] is None else reply_of(row),
    )


def _values(grant: Grant, *, owner_id: str, now_ms: int) -> dict[str, object]:
    request = grant.asked.request
    expires_at_ms = now_ms + (0 if request.send_at_once else request.send_within_ms)
    by_scope = {path.scope: window_id for path, window_id in grant.asked.windows.items()}
    return {
        "request_key": request.request_key,
        "attempt": grant.attempt,
        "prompt_sha256": request.prompt_sha256,
        "owner_id": owner_id,
        "state": (HoldState.SENT if request.send_at_once else HoldState.HELD).value,
        "outcome": "",
        "bound_tokens": request.bound.tokens,
        "bound_nano_usd": request.bound.nano_usd,
        "price_version": request.price_version,
        "reserved_at_ms": now_ms,
        "expires_at_ms": expires_at_ms,
        "deadline_at_ms": expires_at_ms + request.call_timeout_ms,
        "sent_at_ms": now_ms if request.send_at_once else None,
        "reserve_id": grant.asked.reserve_id,
        "mark_id": grant.asked.reserve_id if request.send_at_once else None,
        **{column: by_scope.get(scope) for scope, column in WINDOW_COLUMNS.items()},
    }
