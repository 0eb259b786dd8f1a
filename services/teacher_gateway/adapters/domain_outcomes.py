"""What the newest runs have got for their money, by domain: accepted rows of their batches, spend of the ledger."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

import sqlalchemy as sa

from baldistill.artifacts.layout import RunLayout
from baldistill.artifacts.ports import ArtifactStore
from baldistill.database.transactions import reading
from services.teacher_gateway.adapters.sql_gauges import newest_runs
from services.teacher_gateway.adapters.sql_tables import BUDGETS, WINDOWS
from services.teacher_gateway.ledger.budgets import Scope
from services.teacher_gateway.purchase_metrics import DomainOutcome


class DomainOutcomes:
    """Reads them. Batches never change: each manifest is read once, and forgotten with its run."""

    def __init__(self, engine: sa.Engine, store: ArtifactStore) -> None:
        self._engine = engine
        self._store = store
        self._accepted: dict[str, Mapping[str, int]] = {}
        self._reading = threading.Lock()

    def read(self, *, most_runs: int) -> Mapping[tuple[str, str], Mapping[str, DomainOutcome]]:
        """Return by (tenant, run id) what each domain has. Raises DependencyUnavailable."""
        with self._reading:
            with reading(self._engine) as connection:
                runs = newest_runs(connection, most=most_runs)
                spent = {run: _spent(connection, tenant=run[0], run_id=run[1]) for run in runs}
            stages = {
                run: range(1, max((stage for stage, _ in of_run), default=0) + 1) for run, of_run in spent.items()
            }
            keys = {run: [_layout(run).stage(stage).batch for stage in numbers] for run, numbers in stages.items()}
            known = {key for of_run in keys.values() for key in of_run}
            self._accepted = {key: found for key, found in self._accepted.items() if key in known}
            return {run: self._of_run(keys[run], spent[run]) for run in runs}

    def _of_run(self, batches: list[str], spent: Mapping[tuple[int, str], int]) -> Mapping[str, DomainOutcome]:
        accepted, cost = Counter[str](), Counter[str]()
        for key in batches:
            accepted.update(self._accepted_of(key))
        for (_, domain), nano_usd in spent.items():
            cost[domain] += nano_usd
        return {
            domain: DomainOutcome(accepted=accepted[domain], spent_nano_usd=cost[domain])
            for domain in sorted({*accepted, *cost})
        }

    def _accepted_of(self, key: str) -> Mapping[str, int]:
        if key not in self._accepted:
            manifest = self._store.find_manifest(key)
            if manifest is None:
                return {}
            domains = manifest.attributes["domains"]
            assert isinstance(domains, Mapping)
            self._accepted[key] = {
                str(name): int(str(tally["accepted"])) for name, tally in domains.items() if isinstance(tally, Mapping)
            }
        return self._accepted[key]


def _layout(run: tuple[str, str]) -> RunLayout:
    return RunLayout(tenant=run[0], run_id=run[1])


def _spent(connection: sa.Connection, *, tenant: str, run_id: str) -> dict[tuple[int, str], int]:
    """Return nano-USD by stage and domain, over all windows."""
    columns = BUDGETS.c
    statement = (
        sa.select(columns.stage, columns.domain, sa.func.sum(WINDOWS.c.spent_nano_usd))
        .select_from(BUDGETS.join(WINDOWS, WINDOWS.c.budget_id == columns.budget_id))
        .where(columns.tenant == tenant, columns.run_id == run_id, columns.scope == Scope.DOMAIN.value)
        .group_by(columns.stage, columns.domain)
    )
    return {(int(stage), str(domain)): int(spent) for stage, domain, spent in connection.execute(statement)}
