"""Which of a group's requests fit into their budgets: a proposal from what was read, which guarded updates confirm. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from services.teacher_gateway.ledger.budgets import NOTHING, UNITS, Amounts, BudgetPath, BudgetState, Ceilings
from services.teacher_gateway.ledger.holds import (
    AllFrozen,
    AlreadyStored,
    HoldState,
    InFlight,
    PromptMismatch,
    Refused,
    Reply,
    Reserved,
    ReserveOutcome,
    ReserveRequest,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A budget's window as it was read under its lock. all_frozen: why no budget may be used now, None where they may."""

    state: BudgetState
    ceilings: Ceilings
    spent: Amounts
    held: Amounts
    all_frozen: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LastAttempt:
    """The newest attempt of a request's key. reply: that of any attempt."""

    hold_id: int
    attempt: int
    state: HoldState
    prompt_sha256: str
    reserve_id: str
    reply: Reply | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request of a group. windows: by the budgets that it is to be held in, root first.

    reserve_id: names this reserve; a repeated transaction finds it by that.
    """

    request: ReserveRequest
    reserve_id: str
    windows: Mapping[BudgetPath, int]

    @property
    def amounts(self) -> Amounts:
        bound = self.request.bound
        return Amounts(calls=bound.calls, tokens=bound.tokens, nano_usd=bound.nano_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A request that fits, as the attempt of this number."""

    asked: Asked
    attempt: int


Proposal: TypeAlias = Grant | ReserveOutcome


def propose(
    group: Sequence[Asked], *, standing: Mapping[int, Standing], last: Mapping[str, LastAttempt]
) -> list[Proposal]:
    """Return for each request, in order, whether it fits beside those before it, or what is there under its key."""
    held = {window_id: one.held for window_id, one in standing.items()}
    granted: dict[str, Grant] = {}
    proposals: list[Proposal] = []
    for asked in group:
        key = asked.request.request_key
        known = last.get(key)
        outcome = _known_outcome(asked, known, granted.get(key)) or _refusal(asked, standing=standing, held=held)
        if outcome is not None:
            proposals.append(outcome)
            continue
        grant = granted[key] = Grant(asked=asked, attempt=1 if known is None else known.attempt + 1)
        for window_id in asked.windows.values():
            held[window_id] = plus(held[window_id], asked.amounts)
        proposals.append(grant)
    return proposals


def held_by_window(grants: Iterable[Grant]) -> dict[int, Amounts]:
    """Return what a group's grants hold together in each window, by window id in order."""
    held: dict[int, Amounts] = {}
    for grant in grants:
        for window_id in grant.asked.windows.values():
            held[window_id] = plus(held.get(window_id, NOTHING), grant.asked.amounts)
    return dict(sorted(held.items()))


def plus(left: Amounts, right: Amounts) -> Amounts:
    """Return the sum of two amounts."""
    return Amounts(
        calls=left.calls + right.calls, tokens=left.tokens + right.tokens, nano_usd=left.nano_usd + right.nano_usd
    )


def _known_outcome(asked: Asked, last: LastAttempt | None, granted: Grant | None) -> ReserveOutcome | None:
    """Return what is there under the key; None where nothing is, or what may be tried again."""
    if granted is not None:
        return _granted_before(asked, granted)
    if last is None:
        return None
    key = asked.request.request_key
    if last.reserve_id == asked.reserve_id:
        return Reserved(hold_id=last.hold_id, request_key=key, attempt=last.attempt, sent=last.state is HoldState.SENT)
    if last.prompt_sha256 != asked.request.prompt_sha256:
        return PromptMismatch(stored_sha256=last.prompt_sha256)
    if last.reply is not None:
        return AlreadyStored(reply=last.reply)
    return InFlight(attempt=last.attempt) if last.state in (HoldState.HELD, HoldState.SENT) else None


def _granted_before(asked: Asked, granted: Grant) -> ReserveOutcome:
    """Return what a request finds whose key this very group grants to another caller."""
    stored = granted.asked.request.prompt_sha256
    if stored != asked.request.prompt_sha256:
        return PromptMismatch(stored_sha256=stored)
    return InFlight(attempt=granted.attempt)


def _refusal(
    asked: Asked, *, standing: Mapping[int, Standing], held: Mapping[int, Amounts]
) -> Refused | AllFrozen | None:
    """Return the first budget from the root that does not allow it, None where all do."""
    for path, window_id in asked.windows.items():
        window = standing[window_id]
        if window.all_frozen is not None:
            return AllFrozen(reason=window.all_frozen)
        if window.state is not BudgetState.OPEN:
            return Refused(path=path, state=window.state, unit="state", ceiling=0, spent=0, held=0, asked=0)
        for unit in UNITS:
            ceiling = getattr(window.ceilings, unit)
            spent, others = getattr(window.spent, unit), getattr(held[window_id], unit)
            wanted = getattr(asked.amounts, unit)
            if ceiling is not None and spent + others + wanted > ceiling:
                return Refused(
                    path=path, state=window.state, unit=unit, ceiling=ceiling, spent=spent, held=others, asked=wanted
                )
    return None
