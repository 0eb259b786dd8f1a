"""The callers of the HTTP face: the one TeacherCaller over a loop's effects, one for each exchange (ADR 33)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from baldistill.specs.runspec import TeacherSpec
from services.teacher_gateway.adapters.forwarding_teacher import Exchange, ForwardingTeacher, Provider
from services.teacher_gateway.adapters.teacher_directory import TeacherDirectory
from services.teacher_gateway.bookings import PendingBookings
from services.teacher_gateway.caller import TeacherCaller
from services.teacher_gateway.completions import price_version
from services.teacher_gateway.draining import Drain
from services.teacher_gateway.limits.gate import Passage, PurchaseGate
from services.teacher_gateway.limits.keys import TeacherKey
from services.teacher_gateway.loop_effects import LoopEffects
from services.teacher_gateway.observing import CallObserver
from services.teacher_gateway.ports import AsyncLedger, CallResult, TeacherCall
from services.teacher_gateway.served_models import ServedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """What is the same for all calls of a model."""

    teacher: TeacherSpec
    price_version: str
    keys: Sequence[TeacherKey]
    providers: Mapping[str, Provider]


class ForwardingCallers:
    """Makes callers. What they share with the callers of runs, they share: ledger, bookings, limits, breakers, drain."""

    def __init__(
        self,
        *,
        ledger: AsyncLedger,
        bookings: PendingBookings,
        gate: PurchaseGate,
        drain: Drain,
        teachers: TeacherDirectory,
        observer: CallObserver | None,
    ) -> None:
        self._ledger = ledger
        self._bookings = bookings
        self._gate = gate
        self._drain = drain
        self._teachers = teachers
        self._observer = observer
        self._terms: dict[str, _Terms] = {}

    def prepare(self, models: Sequence[ServedModel]) -> None:
        """Read the models' keys. Raises InvalidInput where one is not set or its URL not allowed."""
        for model in models:
            # Who asks again is the caller: a second attempt of ours would be one that they do not know of.
            teacher = model.teacher.model_copy(update={"max_attempts": 1})
            keys = self._teachers.keys_for(teacher)
            self._terms[model.name] = _Terms(
                teacher=teacher,
                price_version=price_version(teacher),
                keys=keys,
                providers={key.key_id: self._teachers.provider_of(teacher, key.name) for key in keys},
            )

    def caller_for(self, model: ServedModel, exchange: Exchange, forwarding: ForwardingTeacher) -> TeacherCaller:
        """Return the caller of one exchange; its model was prepared."""
        terms = self._terms[model.name]

        async def send(call: TeacherCall, passage: Passage) -> CallResult:
            return await forwarding.send(exchange, call, terms.providers[passage.key.key_id])

        effects = LoopEffects(
            ledger=self._ledger,
            bookings=self._bookings,
            keys=terms.keys,
            gate=self._gate,
            drain=self._drain,
            send=send,
        )
        return TeacherCaller(
            terms.teacher,
            price_version=terms.price_version,
            effects=effects,
            # The caller is told at once, and with what is left (429).
            longest_money_wait_s=0.0,
            observer=self._observer,
        )
