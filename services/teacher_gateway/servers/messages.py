"""The gateway's values as messages, and back."""

from __future__ import annotations

from typing import Any

from baldistill.errors import InvalidInput
from baldistill.rpc.messages import timestamp_of_ms
from baldistill.v1 import teacher_gateway_pb2 as pb
from services.teacher_gateway.ledger.budgets import (
    NO_STAGE,
    UNITS,
    Amounts,
    BudgetPath,
    BudgetState,
    BudgetStatus,
    Ceilings,
    WindowKind,
)
from services.teacher_gateway.ledger.history import BudgetEvent
from services.teacher_gateway.ledger.holds import HoldState, SpendEntry

# SQL's BIGINT; beyond it a ceiling is as good as none.
LARGEST = 2**63 - 1


def path_of(message: pb.BudgetPath, *, field: str) -> BudgetPath:
    """Return the path that a caller names. Raises InvalidInput."""
    try:
        return BudgetPath(
            tenant=message.tenant,
            run_id=message.run_id,
            stage=message.stage or NO_STAGE,
            domain=message.domain,
        )
    except ValueError:
        raise InvalidInput("names tenant, run, stage and domain in this order, without gaps", field=field) from None


def path_message(path: BudgetPath) -> pb.BudgetPath:
    """Return a budget's path."""
    stage = 0 if path.stage == NO_STAGE else path.stage
    return pb.BudgetPath(tenant=path.tenant, run_id=path.run_id, stage=stage, domain=path.domain)


def ceilings_of(message: pb.Ceilings) -> Ceilings:
    """Return the ceilings that a caller wants; what is unset is unlimited. Raises InvalidInput."""
    values = {
        "calls": message.calls if message.HasField("calls") else None,
        "tokens": message.tokens if message.HasField("tokens") else None,
        "nano_usd": message.nano_usd if message.HasField("nano_usd") else None,
    }
    _check_sizes(values, field="ceilings")
    return Ceilings(**values)


def amounts_of(message: pb.Usage) -> Amounts:
    """Return what a caller wants to be added. Raises InvalidInput."""
    values = {unit: getattr(message, unit) for unit in UNITS}
    _check_sizes(values, field="add")
    return Amounts(**values)


def usage_message(amounts: Amounts) -> pb.Usage:
    """Return amounts."""
    return pb.Usage(**{unit: getattr(amounts, unit) for unit in UNITS})


def budget_message(status: BudgetStatus) -> pb.Budget:
    """Return a budget in its current window."""
    limits = {unit: value for unit in UNITS if (value := getattr(status.ceilings, unit)) is not None}
    message = pb.Budget(
        path=path_message(status.path),
        window=pb.BudgetWindow.Value(f"BUDGET_WINDOW_{status.window_kind.name}"),
        state=pb.BudgetState.Value(f"BUDGET_STATE_{status.state.name}"),
        ceilings=pb.Ceilings(**limits),
        spent=usage_message(status.spent),
        held=usage_message(status.held),
        unknown=usage_message(status.unknown),
        fence=status.fence,
    )
    if status.window_kind is not WindowKind.LIFETIME:
        message.window_start_time.CopyFrom(timestamp_of_ms(status.window_start_ms))
    return message


def window_of(number: int) -> WindowKind:
    """Return the window that a caller wants; not said: lifetime. Raises InvalidInput."""
    return WindowKind.LIFETIME if number == 0 else WindowKind[_name(pb.BudgetWindow, number, field="window")]


def state_of(number: int) -> BudgetState | None:
    """Return the state that a caller wants; None: as it is. Raises InvalidInput."""
    return None if number == 0 else BudgetState[_name(pb.BudgetState, number, field="state")]


def hold_states_of(numbers: Any) -> list[HoldState]:
    """Return the states that a caller asks for. Raises InvalidInput."""
    return [HoldState[_name(pb.HoldState, number, field="states")] for number in numbers]


def spend_message(entry: SpendEntry) -> pb.SpendEntry:
    """Return one attempt."""
    return pb.SpendEntry(
        request_id=entry.request_id,
        path=path_message(entry.path),
        state=pb.HoldState.Value(f"HOLD_STATE_{entry.state.name}"),
        usage=usage_message(entry.amounts),
        create_time=timestamp_of_ms(entry.reserved_at_ms),
        update_time=timestamp_of_ms(entry.changed_at_ms),
    )


def event_message(event: BudgetEvent) -> pb.BudgetEvent:
    """Return one line of the audit trail."""
    return pb.BudgetEvent(
        time=timestamp_of_ms(event.at_ms),
        actor=event.actor,
        action=event.action,
        path=None if event.path is None else path_message(event.path),
        request_id=event.request_id,
        details_json=event.details,
    )


_PREFIXES = {"BudgetWindow": "BUDGET_WINDOW_", "BudgetState": "BUDGET_STATE_", "HoldState": "HOLD_STATE_"}


def _name(enum: Any, number: int, *, field: str) -> str:
    named = enum.DESCRIPTOR.values_by_number.get(number)
    if named is None or number == 0:
        raise InvalidInput(f"has no value {number}", field=field)
    return str(named.name.removeprefix(_PREFIXES[enum.DESCRIPTOR.name]))


def _check_sizes(values: dict[str, int | None], *, field: str) -> None:
    too_large = [unit for unit, value in values.items() if value is not None and value > LARGEST]
    if too_large:
        raise InvalidInput(f"at most {LARGEST}", field=f"{field}.{too_large[0]}")
