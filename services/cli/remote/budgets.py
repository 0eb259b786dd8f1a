"""Budgets at a gateway's endpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from baldistill.errors import AlreadyThere
from baldistill.rpc.client import RpcClient
from baldistill.rpc.remote_errors import RemoteTooOld
from baldistill.v1 import teacher_gateway_pb2 as pb
from baldistill.v1 import teacher_gateway_pb2_grpc
from services.cli.remote.connection import TOKEN_VARIABLE
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
from services.teacher_gateway.ledger.gate import Gate, GateState
from services.teacher_gateway.ledger.history import BudgetEvent
from services.teacher_gateway.ledger.reconciling import ProviderFigure, Reconciled
from services.teacher_gateway.servers.gate_messages import figure_message, gate_of, reconciled_of

_PAGE = 1000


@contextmanager
def open_gateway(endpoint: str, *, ca: Path | None) -> Iterator[GatewayAccess]:
    """Connect for the length of a block, with the token of the environment. Raises InvalidInput."""
    with RpcClient(endpoint=endpoint, token=os.environ.get(TOKEN_VARIABLE) or None, ca=ca) as client:
        yield GatewayAccess(teacher_gateway_pb2_grpc.TeacherGatewayServiceStub(client.channel))


@dataclass(frozen=True, slots=True)
class GatewayAccess:
    """A BudgetAccess. The actor in the audit trail is the token's subject."""

    stub: teacher_gateway_pb2_grpc.TeacherGatewayServiceStub

    def run_id_of(self, *, tenant: str, name: str) -> str:  # noqa: ARG002  (the port's)
        """Return the name: names of runs are policy's; here a run goes by its id."""
        return name

    def tree(self, path: BudgetPath) -> list[BudgetStatus]:
        request, found = pb.ListBudgetsRequest(root=_message(path), page_size=_PAGE), []
        while True:
            page = self.stub.ListBudgets(request)
            found += [_status(one) for one in page.budgets]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def create(self, path: BudgetPath, *, ceilings: Ceilings, window: WindowKind) -> bool:
        kind = pb.BudgetWindow.Value(f"BUDGET_WINDOW_{window.name}")
        request = pb.CreateBudgetRequest(path=_message(path), ceilings=_ceilings_message(ceilings), window=kind)
        try:
            self.stub.CreateBudget(request)
        except AlreadyThere:
            return False
        return True

    def set_ceilings(self, path: BudgetPath, ceilings: Ceilings) -> None:
        self.stub.UpdateBudget(pb.UpdateBudgetRequest(path=_message(path), ceilings=_ceilings_message(ceilings)))

    def top_up(self, path: BudgetPath, added: Amounts, *, request_id: str) -> None:
        add = pb.Usage(**{unit: getattr(added, unit) for unit in UNITS})
        self.stub.UpdateBudget(pb.UpdateBudgetRequest(path=_message(path), add=add, request_id=request_id))

    def freeze(self, path: BudgetPath) -> None:
        self.stub.UpdateBudget(pb.UpdateBudgetRequest(path=_message(path), state=pb.BUDGET_STATE_FROZEN))

    def unfreeze(self, path: BudgetPath) -> None:
        self.stub.UpdateBudget(pb.UpdateBudgetRequest(path=_message(path), state=pb.BUDGET_STATE_OPEN))

    def reopen(self, path: BudgetPath) -> None:
        self.stub.UpdateBudget(pb.UpdateBudgetRequest(path=_message(path), reopen=True))

    def gate(self) -> Gate:
        try:
            return gate_of(self.stub.GetBudgetGate(pb.GetBudgetGateRequest()).gate)
        except RemoteTooOld:
            # A gateway from before the gate has none that could be closed.
            return Gate(state=GateState.OPEN, reason="", changed_at_ms=0)

    def freeze_all(self, *, reason: str) -> Gate:
        return gate_of(self.stub.SetBudgetGate(pb.SetBudgetGateRequest(closed=True, reason=reason)).gate)

    def unfreeze_all(self, *, reason: str) -> Gate:
        return gate_of(self.stub.SetBudgetGate(pb.SetBudgetGateRequest(closed=False, reason=reason)).gate)

    def reconcile(self, figures: Sequence[ProviderFigure], *, dry_run: bool) -> Reconciled:
        asked = pb.ReconcileBudgetsRequest(figures=[figure_message(one) for one in figures], dry_run=dry_run)
        return reconciled_of(self.stub.ReconcileBudgets(asked))

    def history(self, path: BudgetPath, *, limit: int) -> list[BudgetEvent]:
        request, found = pb.ListBudgetEventsRequest(root=_message(path)), list[BudgetEvent]()
        while len(found) < limit:
            request.page_size = min(_PAGE, limit - len(found))
            page = self.stub.ListBudgetEvents(request)
            found += [_event(one) for one in page.events]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        return found


def _message(path: BudgetPath) -> pb.BudgetPath:
    stage = 0 if path.stage == NO_STAGE else path.stage
    return pb.BudgetPath(tenant=path.tenant, run_id=path.run_id, stage=stage, domain=path.domain)


def _path(message: pb.BudgetPath) -> BudgetPath:
    return BudgetPath(
        tenant=message.tenant, run_id=message.run_id, stage=message.stage or NO_STAGE, domain=message.domain
    )


def _ceilings_message(ceilings: Ceilings) -> pb.Ceilings:
    return pb.Ceilings(**{unit: value for unit in UNITS if (value := getattr(ceilings, unit)) is not None})


def _status(message: pb.Budget) -> BudgetStatus:
    limits = message.ceilings
    return BudgetStatus(
        path=_path(message.path),
        window_kind=WindowKind[pb.BudgetWindow.Name(message.window).removeprefix("BUDGET_WINDOW_")],
        window_start_ms=message.window_start_time.ToMilliseconds(),
        state=BudgetState[pb.BudgetState.Name(message.state).removeprefix("BUDGET_STATE_")],
        ceilings=Ceilings(
            calls=limits.calls if limits.HasField("calls") else None,
            tokens=limits.tokens if limits.HasField("tokens") else None,
            nano_usd=limits.nano_usd if limits.HasField("nano_usd") else None,
        ),
        spent=_amounts(message.spent),
        held=_amounts(message.held),
        unknown=_amounts(message.unknown),
        fence=message.fence,
    )


def _amounts(message: pb.Usage) -> Amounts:
    return Amounts(calls=message.calls, tokens=message.tokens, nano_usd=message.nano_usd)


def _event(message: pb.BudgetEvent) -> BudgetEvent:
    return BudgetEvent(
        event_id=0,
        at_ms=message.time.ToMilliseconds(),
        actor=message.actor,
        action=message.action,
        path=_path(message.path) if message.HasField("path") else None,
        request_id=message.request_id,
        details=message.details_json,
    )
