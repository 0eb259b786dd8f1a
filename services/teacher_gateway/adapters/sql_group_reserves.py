"""A group of reserves in SQL: read under locks, proposed, inserted together, held by one guarded update a window (ADR 30)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Insert, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from baldistill.database.membership import ByIds
from services.teacher_gateway.adapters.sql_counters import fits
from services.teacher_gateway.adapters.sql_settlement import WINDOW_COLUMNS, reply_of
from services.teacher_gateway.adapters.sql_tables import HOLDS, REPLIES, WINDOWS
from services.teacher_gateway.ledger.budgets import UNITS, Amounts, BudgetState
from services.teacher_gateway.ledger.granting import Asked, Grant, LastAttempt, Standing, held_by_window, propose
from services.teacher_gateway.ledger.holds import HoldState, Reserved, ReserveOutcome


class GroupOutdated(Exception):
    """What a group read was not what stood when it wrote: it is to be done again, from its reading on."""


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
_HOLD_MORE = (
    update(WINDOWS)
    .where(
        WINDOWS.c.window_id == bindparam("of_window"),
        WINDOWS.c.state == BudgetState.OPEN.value,
        fits({unit: bindparam(f"more_{unit}") for unit in UNITS}),
    )
    .values({f"held_{unit}": WINDOWS.c[f"held_{unit}"] + bindparam(f"more_{unit}") for unit in UNITS})
)


def reserve_group(
    connection: Connection,
    group: Sequence[Asked],
    *,
    standing: Mapping[int, Standing],
    owner_id: str,
    now_ms: int,
) -> list[ReserveOutcome]:
    """Hold each request that fits in every window of its chain. standing: the windows, whose locks the caller took.

    Raises GroupOutdated where anything was not as it was read; nothing must be committed then.
    """
    if not group:
        return []
    # Looked for only under the locks, which an earlier try of this transaction held as well (ADR 13).
    proposals = propose(group, standing=standing, last=_last_attempts(connection, group))
    grants = [one for one in proposals if isinstance(one, Grant)]
    ids = _insert_holds(connection, grants, owner_id=owner_id, now_ms=now_ms)
    _hold_in_windows(connection, held_by_window(grants))
    return [_reserved(one, ids) if isinstance(one, Grant) else one for one in proposals]


def _reserved(grant: Grant, ids: Mapping[str, int]) -> Reserved:
    return Reserved(
        hold_id=ids[grant.asked.reserve_id],
        request_key=grant.asked.request.request_key,
        attempt=grant.attempt,
        sent=grant.asked.request.send_at_once,
    )


def _last_attempts(connection: Connection, group: Sequence[Asked]) -> dict[str, LastAttempt]:
    keys = {asked.request.request_key for asked in group}
    rows = _LAST.execute(connection, keys).mappings()
    # In the order of attempts: the newest of a key comes last and stays.
    return {row["request_key"]: _last_attempt(row) for row in rows}


def _last_attempt(row: Mapping[Any, Any]) -> LastAttempt:
    return LastAttempt(
        hold_id=row["hold_id"],
        attempt=row["hold_attempt"],
        state=HoldState(row["state"]),
        prompt_sha256=row["prompt_sha256"],
        reserve_id=row["reserve_id"] or "",
        reply=None if row["attempt"] is None else reply_of(row),
    )


def _insert_holds(connection: Connection, grants: Sequence[Grant], *, owner_id: str, now_ms: int) -> dict[str, int]:
    """Insert holds and return their ids by reserve id. Raises GroupOutdated where an attempt is taken."""
    if not grants:
        return {}
    rows = [_values(grant, owner_id=owner_id, now_ms=now_ms) for grant in grants]
    inserted = connection.execute(_insertion(connection), rows).all()
    if len(inserted) != len(rows):
        # Windows that were locked apart, as around midnight: another replica took this attempt since we looked.
        raise GroupOutdated
    return {row.reserve_id: row.hold_id for row in inserted}


def _insertion(connection: Connection) -> Insert:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    once = insert(HOLDS).on_conflict_do_nothing(index_elements=["request_key", "attempt"])
    return once.returning(HOLDS.c.reserve_id, HOLDS.c.hold_id)


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


def _hold_in_windows(connection: Connection, held: Mapping[int, Amounts]) -> None:
    """Hold amounts in each window if it is open and its ceilings allow it; the reading before only proposed it."""
    if not held:
        return
    rows = [
        {"of_window": window_id, **{f"more_{unit}": getattr(amounts, unit) for unit in UNITS}}
        for window_id, amounts in held.items()
    ]
    if connection.execute(_HOLD_MORE, rows).rowcount != len(rows):
        raise GroupOutdated
