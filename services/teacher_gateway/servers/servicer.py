"""TeacherGatewayService: budgets, what was spent, and calls for callers outside of runs."""

from __future__ import annotations

import json
from dataclasses import dataclass

from baldistill.artifacts.ports import ArtifactStore
from baldistill.errors import AccessDenied, AlreadyThere, InvalidInput
from baldistill.rpc.callers import Caller, require_admin, require_tenant
from baldistill.rpc.calls import require_time_left
from baldistill.rpc.messages import own_artifact
from baldistill.rpc.pages import last_id_of, last_number_of, page_size, page_token, wrong_token
from baldistill.tasks.prompts import ChatMessage
from baldistill.v1 import teacher_gateway_pb2 as pb
from baldistill.v1 import teacher_gateway_pb2_grpc
from services.teacher_gateway.budget_changes import BudgetChange, change_budget, status_of
from services.teacher_gateway.completions import Completion, Completions
from services.teacher_gateway.errors import BudgetMissing
from services.teacher_gateway.ledger.budgets import BudgetPath, BudgetStatus, Scope
from services.teacher_gateway.ports import BudgetGate, Ledger, Reconciler
from services.teacher_gateway.servers.gate_messages import figure_of, gate_message, reconciled_message
from services.teacher_gateway.servers.messages import (
    amounts_of,
    budget_message,
    ceilings_of,
    event_message,
    hold_states_of,
    path_of,
    spend_message,
    state_of,
    usage_message,
    window_of,
)


@dataclass(frozen=True, slots=True)
class TeacherGatewayServicer(teacher_gateway_pb2_grpc.TeacherGatewayServiceServicer):
    """Answers for the ledger. Thread-safe.

    Another tenant's budget is refused before anything is looked up, so that nobody learns whether it exists. The
    tenant's own budget is what others allow them: only admins make or change it.
    """

    ledger: Ledger
    gate: BudgetGate
    reconciler: Reconciler
    store: ArtifactStore
    completions: Completions

    def Complete(self, request: pb.CompleteRequest, _context: object) -> pb.CompleteResponse:
        path = _own_path(request.budget, field="budget")
        require_time_left()
        done = self.completions.complete(
            Completion(
                budget=path,
                model=request.model,
                messages=[ChatMessage(role=one.role, content=one.content) for one in request.messages],
                max_completion_tokens=request.max_completion_tokens,
                temperature=request.temperature,
                seed=request.seed if request.HasField("seed") else None,
                idempotency_key=request.idempotency_key,
            ),
            still_wanted=require_time_left,
        )
        return pb.CompleteResponse(
            content=done.reply.text,
            finish_reason=done.reply.finish_reason,
            model=done.reply.model,
            usage=usage_message(done.used),
            stored=done.stored,
            request_id=done.request_id,
        )

    def CreateBudget(self, request: pb.CreateBudgetRequest, _context: object) -> pb.CreateBudgetResponse:
        path = _own_path(request.path, field="path")
        caller = _may_change(path)
        ceilings, window = ceilings_of(request.ceilings), window_of(request.window)
        require_time_left()
        made = self.ledger.ensure_budget(path, ceilings=ceilings, window=window, actor=caller.subject)
        status = status_of(path, ledger=self.ledger)
        if not made and (status.ceilings, status.window_kind) != (ceilings, window):
            raise AlreadyThere(kind="budget", name=str(path), difference="its ceilings or its window are others")
        return pb.CreateBudgetResponse(budget=budget_message(status))

    def UpdateBudget(self, request: pb.UpdateBudgetRequest, _context: object) -> pb.UpdateBudgetResponse:
        path = _own_path(request.path, field="path")
        caller = _may_change(path)
        if request.fence:
            # A tenant's own, higher than any epoch, would have policy's next freeze of the run refused.
            require_admin()
        spec = request.run_spec if request.HasField("run_spec") else None
        change = BudgetChange(
            path=path,
            ceilings=ceilings_of(request.ceilings) if request.HasField("ceilings") else None,
            add=amounts_of(request.add),
            request_id=request.request_id,
            state=state_of(request.state),
            fence=request.fence,
            run_spec=None if spec is None else own_artifact(spec, tenant=path.tenant, field="run_spec"),
            reopen=request.reopen,
        )
        require_time_left()
        status = change_budget(change, ledger=self.ledger, store=self.store, actor=caller.subject)
        return pb.UpdateBudgetResponse(budget=budget_message(status))

    def GetBudget(self, request: pb.GetBudgetRequest, _context: object) -> pb.GetBudgetResponse:
        path = _own_path(request.path, field="path")
        return pb.GetBudgetResponse(budget=budget_message(status_of(path, ledger=self.ledger)))

    def ListBudgets(self, request: pb.ListBudgetsRequest, _context: object) -> pb.ListBudgetsResponse:
        path = _own_path(request.root, field="root")
        size, after = page_size(request.page_size), _place_of(request.page_token)
        tree = sorted(self.ledger.budget_tree(path), key=_place)
        if not tree:
            raise BudgetMissing(path=path)
        rest = [status for status in tree if after is None or _place(status) > after]
        page = rest[:size]
        token = page_token(json.dumps(_place(page[-1]))) if len(rest) > size else ""
        return pb.ListBudgetsResponse(budgets=[budget_message(one) for one in page], next_page_token=token)

    def ListSpend(self, request: pb.ListSpendRequest, _context: object) -> pb.ListSpendResponse:
        path = _own_path(request.root, field="root")
        size = page_size(request.page_size)
        entries = self.ledger.spend(
            path,
            states=hold_states_of(request.states),
            before_hold_id=last_number_of(request.page_token),
            limit=size + 1,
        )
        token = page_token(str(entries[size - 1].hold_id)) if len(entries) > size else ""
        return pb.ListSpendResponse(entries=[spend_message(one) for one in entries[:size]], next_page_token=token)

    def ListBudgetEvents(self, request: pb.ListBudgetEventsRequest, _context: object) -> pb.ListBudgetEventsResponse:
        path = _own_path(request.root, field="root")
        size = page_size(request.page_size)
        events = self.ledger.history(path, before_id=last_number_of(request.page_token), limit=size + 1)
        token = page_token(str(events[size - 1].event_id)) if len(events) > size else ""
        return pb.ListBudgetEventsResponse(events=[event_message(one) for one in events[:size]], next_page_token=token)

    def GetBudgetGate(self, _request: pb.GetBudgetGateRequest, _context: object) -> pb.GetBudgetGateResponse:
        return pb.GetBudgetGateResponse(gate=gate_message(self.gate.read()))

    def SetBudgetGate(self, request: pb.SetBudgetGateRequest, _context: object) -> pb.SetBudgetGateResponse:
        actor = require_admin().subject
        if not request.reason:
            raise InvalidInput("must be set; the audit trail keeps it", field="reason")
        require_time_left()
        turn = self.gate.freeze_all if request.closed else self.gate.unfreeze_all
        return pb.SetBudgetGateResponse(gate=gate_message(turn(reason=request.reason, actor=actor)))

    def ReconcileBudgets(self, request: pb.ReconcileBudgetsRequest, _context: object) -> pb.ReconcileBudgetsResponse:
        actor = require_admin().subject
        figures = [figure_of(one) for one in request.figures]
        require_time_left()
        done = self.reconciler.reconcile(figures, actor=actor, dry_run=request.dry_run)
        return reconciled_message(done)


def _own_path(message: pb.BudgetPath, *, field: str) -> BudgetPath:
    """Return the path that a caller names, where it is theirs. Raises InvalidInput, Unauthenticated, AccessDenied."""
    path = path_of(message, field=field)
    require_tenant(path.tenant)
    return path


def _may_change(path: BudgetPath) -> Caller:
    caller = require_tenant(path.tenant)
    if path.scope is Scope.TENANT and not caller.is_admin:
        raise AccessDenied(subject=caller.subject, tenant=f"{path.tenant} (its own budget)")
    return caller


def _place(status: BudgetStatus) -> list[str | int]:
    path = status.path
    return [path.run_id, path.stage, path.domain]


def _place_of(token: str) -> list[str | int] | None:
    if not token:
        return None
    try:
        run_id, stage, domain = json.loads(last_id_of(token))
    except ValueError:
        raise wrong_token() from None
    return [str(run_id), int(stage), str(domain)]
