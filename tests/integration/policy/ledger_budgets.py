"""Budgets of runs straight on a ledger, for tests of run control."""

from __future__ import annotations

import dataclasses
from typing import Any

from baldistill.artifacts.ports import ArtifactStore
from services.policy.ports import Money, Overtaken, RunRecord
from services.teacher_gateway.budget_changes import BudgetChange, change_budget
from services.teacher_gateway.errors import FencedOff
from services.teacher_gateway.ledger.budgets import Amounts, BudgetPath, BudgetState
from services.teacher_gateway.ports import Ledger


class LedgerBudgets:
    """RunBudgets straight on a ledger: what the gateway does with the RPC, without the network."""

    def __init__(self, ledger: Ledger, store: ArtifactStore) -> None:
        self._ledger = ledger
        self._store = store

    def reach(self, run: RunRecord) -> None:
        """The ledger is in this process."""

    def freeze(self, run: RunRecord, *, epoch: int) -> None:
        self._change(run, state=BudgetState.FROZEN, fence=epoch)

    def thaw(self, run: RunRecord, *, epoch: int) -> None:
        self._change(run, state=BudgetState.OPEN, fence=epoch)

    def is_frozen_later(self, run: RunRecord) -> bool:
        tree = self._ledger.budget_tree(BudgetPath(tenant=run.tenant, run_id=run.run_id))
        return bool(tree) and tree[0].state is BudgetState.FROZEN and tree[0].fence > run.epoch

    def add(self, run: RunRecord, money: Money, *, request_id: str) -> None:
        self._change(run, add=Amounts(**dataclasses.asdict(money)), request_id=request_id)

    def _change(self, run: RunRecord, **values: Any) -> None:
        path = BudgetPath(tenant=run.tenant, run_id=run.run_id)
        change = BudgetChange(path=path, run_spec=run.spec, **values)
        try:
            change_budget(change, ledger=self._ledger, store=self._store, actor="policy")
        except FencedOff as error:
            raise Overtaken(run_id=run.run_id) from error
