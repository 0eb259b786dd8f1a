"""What the ledger says against what the provider saw: the audit of DESIGN 4 over a whole database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, text

from baldistill.database.engine import reading


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAudit:
    """stored, unknown: attempt ids `<key>/<attempt>` by the ledger.   seen: by the provider, in the order of arrival.

    open_holds: attempts that never ended.   overspent: budgets that are above a ceiling.
    """

    stored: frozenset[str]
    unknown: frozenset[str]
    seen: tuple[str, ...]
    open_holds: int
    overspent: int

    @property
    def unexplained(self) -> int:
        """Attempts seen but neither stored nor UNKNOWN, and attempts stored but not seen."""
        return len(set(self.seen) - self.stored - self.unknown) + len(self.stored - set(self.seen))

    @property
    def paid_twice(self) -> int:
        """Attempts that the provider served although an earlier attempt of their key had its reply stored."""
        stored_as = {key: int(attempt) for key, _, attempt in (one.rpartition("/") for one in self.stored)}
        later = (one.rpartition("/") for one in self.seen)
        again = sum(int(attempt) > stored_as.get(key, int(attempt)) for key, _, attempt in later)
        return again + len(self.seen) - len(set(self.seen))


def audit_calls(engine: Engine, *, seen: Sequence[str]) -> CallAudit:
    """Compare every hold of a database with what its one provider saw."""
    with reading(engine) as connection:
        rows = connection.execute(text("SELECT request_key, attempt, state FROM holds")).all()
        overspent = connection.execute(
            text(
                "SELECT count(*) FROM budget_windows"
                " WHERE spent_calls + held_calls > ceiling_calls OR spent_tokens + held_tokens > ceiling_tokens"
                " OR spent_nano_usd + held_nano_usd > ceiling_nano_usd"
            )
        ).scalar_one()
    by_state: dict[str, set[str]] = {
        "held": set(),
        "sent": set(),
        "settled": set(),
        "released": set(),
        "unknown": set(),
    }
    for key, attempt, state in rows:
        by_state[state].add(f"{key}/{attempt}")
    return CallAudit(
        stored=frozenset(by_state["settled"]),
        unknown=frozenset(by_state["unknown"]),
        seen=tuple(seen),
        open_holds=len(by_state["held"] | by_state["sent"]),
        overspent=int(overspent),
    )


def begun_calls(engine: Engine, *, run_id: str) -> frozenset[str]:
    """Return the attempt ids of a run that were marked as sent: all that its provider can ever have seen of it."""
    query = text(
        "SELECT request_key, attempt FROM holds JOIN budget_windows ON window_id = run_window"
        " JOIN budgets USING (budget_id) WHERE run_id = :run_id AND sent_at_ms IS NOT NULL"
    )
    with reading(engine) as connection:
        return frozenset(f"{key}/{attempt}" for key, attempt in connection.execute(query, {"run_id": run_id}))
