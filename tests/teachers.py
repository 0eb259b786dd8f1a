"""Teachers as the gateway's caller wants them: a client by a key of its own, and a gate without limits."""

from __future__ import annotations

from collections.abc import Sequence

from services.teacher_gateway.limits.desk import Departure, LimitDesk, Ticket
from services.teacher_gateway.limits.gate import PurchaseGate
from services.teacher_gateway.limits.keys import TeacherKey
from services.teacher_gateway.limits.terms import KeyLimits
from services.teacher_gateway.ports import TeacherClient


class NoStore:
    """A LimitStore that nobody may ask: keys without limits never do."""

    def settle(self, tickets: Sequence[Ticket], departures: Sequence[Departure]) -> list[float]:
        raise AssertionError(f"asked for {tickets} {departures}")


def open_gate() -> PurchaseGate:
    """Return a gate that lets every key without limits through."""
    return PurchaseGate(limits=LimitDesk(NoStore()))


def key_of(client: TeacherClient, *, key_id: str = "key", limits: KeyLimits | None = None) -> TeacherKey:
    """Return a teacher by one key."""
    return TeacherKey(key_id=key_id, limits_id=key_id, name=key_id, limits=limits or KeyLimits(), client=client)
