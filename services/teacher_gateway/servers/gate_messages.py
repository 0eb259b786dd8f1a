"""The gate before all budgets and its reconciling as messages, and back. Both ends use them."""

from __future__ import annotations

from baldistill.errors import InvalidInput
from baldistill.rpc.messages import timestamp_of_ms
from baldistill.v1 import teacher_gateway_pb2 as pb
from services.teacher_gateway.ledger.budgets import UNITS, Amounts, Scope
from services.teacher_gateway.ledger.gate import Gate, GateState
from services.teacher_gateway.ledger.reconciling import Correction, ProviderFigure, Reconciled
from services.teacher_gateway.servers.messages import LARGEST, path_message, path_of, usage_message


def gate_message(gate: Gate) -> pb.BudgetGate:
    """Return the gate."""
    message = pb.BudgetGate(closed=not gate.is_open, reason=gate.reason)
    if gate.changed_at_ms:
        message.update_time.CopyFrom(timestamp_of_ms(gate.changed_at_ms))
    return message


def gate_of(message: pb.BudgetGate) -> Gate:
    """Return the gate."""
    state = GateState.CLOSED if message.closed else GateState.OPEN
    return Gate(state=state, reason=message.reason, changed_at_ms=message.update_time.ToMilliseconds())


def figure_of(message: pb.ProviderFigure) -> ProviderFigure:
    """Return what a provider counted. Raises InvalidInput."""
    path, place = path_of(message.path, field="figures.path"), message.place or None
    if path.scope not in (Scope.TENANT, Scope.RUN):
        raise InvalidInput("a provider counts for tenants and runs", path=place, field="figures.path")
    counted = {
        "calls": message.calls if message.HasField("calls") else None,
        "tokens": message.tokens if message.HasField("tokens") else None,
        "nano_usd": message.nano_usd if message.HasField("nano_usd") else None,
    }
    for unit, value in counted.items():
        if value is not None and value > LARGEST:
            raise InvalidInput(f"at most {LARGEST}", path=place, field=unit)
    return ProviderFigure(path=path, place=message.place, **counted)


def figure_message(figure: ProviderFigure) -> pb.ProviderFigure:
    """Return what a provider counted."""
    counted = {unit: value for unit in UNITS if (value := getattr(figure, unit)) is not None}
    return pb.ProviderFigure(path=path_message(figure.path), place=figure.place, **counted)


def reconciled_message(done: Reconciled) -> pb.ReconcileBudgetsResponse:
    """Return what the figures came to."""
    return pb.ReconcileBudgetsResponse(
        corrections=[_correction_message(one) for one in done.corrections],
        frozen=[path_message(path) for path in done.frozen],
    )


def reconciled_of(message: pb.ReconcileBudgetsResponse) -> Reconciled:
    """Return what the figures came to."""
    return Reconciled(
        corrections=[
            Correction(
                figure=figure_of(one.figure),
                known=_amounts(one.known),
                missing=_amounts(one.missing),
                added=_amounts(one.added),
                closes=one.closes,
            )
            for one in message.corrections
        ],
        frozen=[path_of(one, field="frozen") for one in message.frozen],
    )


def _correction_message(one: Correction) -> pb.Correction:
    return pb.Correction(
        figure=figure_message(one.figure),
        known=usage_message(one.known),
        missing=usage_message(one.missing),
        added=usage_message(one.added),
        closes=one.closes,
    )


def _amounts(message: pb.Usage) -> Amounts:
    return Amounts(calls=message.calls, tokens=message.tokens, nano_usd=message.nano_usd)
