"""Where `baldistill budget` finds budgets: in the home's ledger, in a database, or at a gateway's endpoint. One port for all."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from baldistill.errors import InvalidInput
from services.cli.runs import find_record
from services.cli.stores import open_stores
from services.teacher_gateway.composition import open_gate, open_ledger, open_reconciler
from services.teacher_gateway.ledger.budgets import (
    NO_STAGE,
    Amounts,
    BudgetPath,
    BudgetStatus,
    Ceilings,
    Scope,
    WindowKind,
)
from services.teacher_gateway.ledger.gate import Gate
from services.teacher_gateway.ledger.history import BudgetEvent
from services.teacher_gateway.ledger.reconciling import ProviderFigure, Reconciled
from services.teacher_gateway.ports import BudgetGate, Ledger, Reconciler

_ACTOR = "command line"


class BudgetAccess(Protocol):
    """Budgets, wherever they are. Raises BudgetMissing, CeilingTooLow, DependencyUnavailable, as the ledger does."""

    def run_id_of(self, *, tenant: str, name: str) -> str:
        """Return the id of a run by its name or id. Raises InvalidInput, NotKnown."""

    def tree(self, path: BudgetPath) -> list[BudgetStatus]:
        """Return a budget and all below it; [] where there is none."""

    def create(self, path: BudgetPath, *, ceilings: Ceilings, window: WindowKind) -> bool:
        """Make a budget. Return False where it is there already."""

    def set_ceilings(self, path: BudgetPath, ceilings: Ceilings) -> None:
        """Replace all its ceilings."""

    def top_up(self, path: BudgetPath, added: Amounts, *, request_id: str) -> None:
        """Raise the ceilings that there are, once per request id."""

    def freeze(self, path: BudgetPath) -> None:
        """Let nothing more be reserved or sent."""

    def unfreeze(self, path: BudgetPath) -> None:
        """Undo that."""

    def reopen(self, path: BudgetPath) -> None:
        """Open what a provider's bill closed."""

    def history(self, path: BudgetPath, *, limit: int) -> list[BudgetEvent]:
        """Return its audit trail, newest first."""

    def gate(self) -> Gate:
        """Return whether any budget may be used."""

    def freeze_all(self, *, reason: str) -> Gate:
        """Let nothing more be reserved or sent under any budget."""

    def unfreeze_all(self, *, reason: str) -> Gate:
        """Undo that, on somebody's word."""

    def reconcile(self, figures: Sequence[ProviderFigure], *, dry_run: bool) -> Reconciled:
        """Book what the ledger lacks, and undo that. Raises InvalidInput, NotFrozen, CallsUnderWay."""


@dataclass(frozen=True, slots=True)
class LedgerAccess:
    """Budgets in a ledger that this process opened. The actor in the audit trail is `command line`."""

    ledger: Ledger
    budget_gate: BudgetGate
    reconciler: Reconciler
    names: NamesOfRuns

    def run_id_of(self, *, tenant: str, name: str) -> str:
        return self.names.run_id_of(tenant=tenant, name=name)

    def tree(self, path: BudgetPath) -> list[BudgetStatus]:
        return self.ledger.budget_tree(path)

    def create(self, path: BudgetPath, *, ceilings: Ceilings, window: WindowKind) -> bool:
        return self.ledger.ensure_budget(path, ceilings=ceilings, window=window, actor=_ACTOR)

    def set_ceilings(self, path: BudgetPath, ceilings: Ceilings) -> None:
        self.ledger.set_ceilings(path, ceilings, actor=_ACTOR)

    def top_up(self, path: BudgetPath, added: Amounts, *, request_id: str) -> None:
        amounts = {"calls": added.calls, "tokens": added.tokens, "nano_usd": added.nano_usd}
        self.ledger.top_up(path, **amounts, request_id=request_id, actor=_ACTOR)

    def freeze(self, path: BudgetPath) -> None:
        self.ledger.freeze(path, actor=_ACTOR)

    def unfreeze(self, path: BudgetPath) -> None:
        self.ledger.unfreeze(path, actor=_ACTOR)

    def reopen(self, path: BudgetPath) -> None:
        self.ledger.reopen(path, actor=_ACTOR)

    def gate(self) -> Gate:
        return self.budget_gate.read()

    def freeze_all(self, *, reason: str) -> Gate:
        return self.budget_gate.freeze_all(reason=reason, actor=_ACTOR)

    def unfreeze_all(self, *, reason: str) -> Gate:
        return self.budget_gate.unfreeze_all(reason=reason, actor=_ACTOR)

    def reconcile(self, figures: Sequence[ProviderFigure], *, dry_run: bool) -> Reconciled:
        return self.reconciler.reconcile(figures, actor=_ACTOR, dry_run=dry_run)

    def history(self, path: BudgetPath, *, limit: int) -> list[BudgetEvent]:
        return self.ledger.history(path, before_id=None, limit=limit)


class NamesOfRuns(Protocol):
    """Finds runs by what people call them."""

    def run_id_of(self, *, tenant: str, name: str) -> str:
        """Return a run's id. Raises InvalidInput that lists what is known."""


@contextmanager
def open_budgets(*, home: Path, cluster: bool, endpoint: str, ca: Path | None) -> Iterator[BudgetAccess]:
    """Open them for one command. endpoint: the gateway's; empty: a database, of the home or of the environment."""
    if endpoint:
        # Deferred: only who calls a server imports gRPC.
        from services.cli.remote.budgets import open_gateway

        with open_gateway(endpoint, ca=ca) as access:
            yield access
        return
    with open_stores(home, cluster=cluster) as stores, open_ledger(stores.engine, locks=stores.locks) as ledger:

        @dataclass(frozen=True)
        class Names:
            def run_id_of(self, *, tenant: str, name: str) -> str:
                return find_record(stores.engine, place=stores.place, tenant=tenant, name=name).run_id

        yield LedgerAccess(ledger, open_gate(stores.engine), open_reconciler(stores.engine), Names())


def path_of(access: BudgetAccess, *, tenant: str, run: str, stage: int, domain: str) -> BudgetPath:
    """Return the budget that a command line names. Raises InvalidInput."""
    if (stage or domain) and not run:
        raise InvalidInput("--stage and --domain are of a run; name it")
    if domain and not stage:
        raise InvalidInput("a domain's budget is of one stage; add --stage")
    run_id = access.run_id_of(tenant=tenant, name=run) if run else ""
    return BudgetPath(tenant=tenant, run_id=run_id, stage=stage or NO_STAGE, domain=domain)


def is_shown(status: BudgetStatus, *, root: BudgetPath, domains: bool) -> bool:
    """True where a table has a place for it: the budget itself, and below it no domains unless asked for."""
    return domains or status.path == root or status.path.scope is not Scope.DOMAIN


def new_request_id() -> str:
    """Name one addition, for all tries of this command."""
    return str(uuid.uuid4())
