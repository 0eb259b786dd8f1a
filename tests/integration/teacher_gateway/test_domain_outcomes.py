"""Accepted examples and their cost by domain, read from batches and the ledger."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.events.facts import Fact, RunState
from baldistill.testing.databases import open_test_database
from baldistill.testing.teacher_runs import RUN_ID, TENANT, TeacherRun, tickets
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.ports import RunRecord
from services.teacher_gateway.adapters.domain_outcomes import DomainOutcomes
from services.teacher_gateway.adapters.stage_spending import read_stage_spending
from services.teacher_gateway.composition import build_teacher_gateway
from services.teacher_gateway.ledger.budgets import BudgetPath, Scope

BILLING, LOGIN = tickets("billing", 6), tickets("login", 3)
PRICE = {"input_usd_per_million_tokens": 10, "output_usd_per_million_tokens": 30}


def test_domains_show_accepted_rows_and_what_all_their_calls_cost(tmp_path: Path) -> None:
    store, engine = (
        LocalArtifactStore(tmp_path / "artifacts"),
        open_test_database(kind="sqlite", location=str(tmp_path)),
    )
    teacher = {"kind": "protocol", "price": PRICE, "protocol": {"wrong_label_share": 0.5}}
    run = TeacherRun.create(store, pool=[*BILLING, *LOGIN], teacher=teacher)
    SqlRunRegistry(engine).create(
        RunRecord(
            tenant=TENANT,
            run_id=RUN_ID,
            name="run",
            spec=run.spec,
            state=RunState.RUNNING,
            epoch=1,
            stage=1,
            baseline_evaluated=False,
            budget_exhausted=False,
            brought_here_by="",
            reason="",
            announced=True,
        )
    )
    gateway = build_teacher_gateway(store=store, engine=engine, environment={})
    waiting: deque[Fact] = deque([run.examples_selected(selected=[*BILLING, *LOGIN])])
    while waiting:
        fact = waiting.popleft()
        for group in gateway.groups:
            if type(fact) in group.handlers:
                waiting.extend(group.handlers[type(fact)](fact))
    outcomes = DomainOutcomes(engine, store).read(most_runs=10)[TENANT, RUN_ID]
    spent = {
        status.path.domain: status.spent.nano_usd
        for status in gateway.ledger.budget_tree(BudgetPath(tenant=TENANT, run_id=RUN_ID))
        if status.path.scope is Scope.DOMAIN
    }
    assert {name: one.spent_nano_usd for name, one in outcomes.items()} == spent
    assert all(spent.values())
    accepted = {name: one.accepted for name, one in outcomes.items()}
    assert 0 < sum(accepted.values()) < len(BILLING) + len(LOGIN)
    (stage,) = read_stage_spending(engine)
    assert (stage.tenant, stage.run_id, stage.stage, stage.nano_usd) == (TENANT, RUN_ID, 1, sum(spent.values()))
    assert stage.calls == len(BILLING) + len(LOGIN)
    gateway.close()
    engine.dispose()
