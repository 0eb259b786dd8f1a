"""Builds a run's report out of what is stored: spec, plans, selections, batches, metrics, ledger, registry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from baldistill.artifacts.ports import ArtifactStore
from baldistill.artifacts.schemas import StagePlan
from baldistill.datasets.storage import load_dataset
from baldistill.specs.frozen import FrozenRun, load_frozen_run
from baldistill.specs.methods import PRESETS
from services.cli.home import Home
from services.cli.reporting.metrics import StageMetrics, read_metrics
from services.cli.reporting.model import RowCounts, RunReport, StageReport, UsageReport
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.planning import plan_all_stages, tail_domains
from services.policy.ports import RunRecord, TimelineEntry
from services.policy.preview import method_calls
from services.policy.submission import pool_counts
from services.policy.timing import stage_minutes
from services.teacher_gateway.composition import run_budgets
from services.teacher_gateway.ledger.budgets import UNITS, BudgetStatus


def build_report(record: RunRecord, *, home: Home) -> RunReport:
    """Return the report of a run as far as it is. Raises ArtifactMissing, ArtifactCorrupt."""
    store = home.store
    frozen = load_frozen_run(store, record.spec)
    spec = frozen.spec
    dataset = load_dataset(store, tenant=spec.tenant, name=frozen.dataset.name, version=frozen.dataset.version)
    pool = pool_counts(dataset)
    timeline = SqlRunRegistry(home.engine).timeline(tenant=record.tenant, run_id=record.run_id)
    metrics = {stage: _metrics(store, frozen, stage) for stage in range(spec.stages + 1)}
    last = next((one for stage in reversed(metrics) if stage and (one := metrics[stage]) is not None), None)
    plans = plan_all_stages(
        method=frozen.method, pool=pool, budget=spec.budget.examples, stages=spec.stages, seed=spec.seed
    )
    return RunReport(
        name=record.name,
        run_id=record.run_id,
        tenant=record.tenant,
        state=record.state.value,
        reason=record.reason,
        method=_method_name(frozen),
        target=frozen.method.target.value,
        dataset=f"{frozen.dataset.name}@{frozen.dataset.version}",
        base_model=frozen.base_model.name,
        teacher=f"{spec.teacher.model} (openai protocol)" if spec.teacher.kind == "openai" else spec.teacher.kind,
        claims_quality=spec.teacher.kind == "openai",
        budget_examples=spec.budget.examples,
        planned_calls=method_calls(plans, frozen.method),
        pool=pool,
        tail=tail_domains(pool=pool, budget=spec.budget.examples),
        stages=tuple(
            stage
            for number in range(spec.stages + 1)
            if (stage := _stage(store, frozen, number, metrics=metrics[number], timeline=timeline)) is not None
        ),
        references=last.references if last else {},
        usage=tuple(_usage(status) for status in run_budgets(home.engine, tenant=record.tenant, run_id=record.run_id)),
    )


def _stage(
    store: ArtifactStore,
    frozen: FrozenRun,
    number: int,
    *,
    metrics: StageMetrics | None,
    timeline: Sequence[TimelineEntry],
) -> StageReport | None:
    """Return what is known of a stage, None where it has not begun."""
    layout = frozen.layout.stage(number)
    plan_manifest = store.find_manifest(layout.plan)
    if plan_manifest is None and metrics is None:
        return None
    quota = 0
    if plan_manifest is not None:
        quota = StagePlan.from_json(json.loads(store.read_bytes(plan_manifest.files["plan"]))).quota
    selection, batch = store.find_manifest(layout.selection), store.find_manifest(layout.batch)
    selected = selection.attributes["selected"] if selection else {}
    assert isinstance(selected, Mapping)
    counts = batch.attributes["domains"] if batch else {}
    assert isinstance(counts, Mapping)
    return StageReport(
        stage=number,
        quota=quota,
        rows={name: _row_counts(selected.get(name, 0), counts.get(name, {})) for name in sorted({*selected, *counts})},
        rejections=_rejections(counts),
        metrics=metrics.report if metrics else None,
        minutes=stage_minutes(timeline, stage=number),
    )


def _row_counts(selected: Any, counts: Any) -> RowCounts:
    rejected = counts.get("rejected", {})
    return RowCounts(
        selected=selected,
        asked=counts.get("asked", 0),
        accepted=counts.get("accepted", 0),
        rejected=sum(rejected.values()),
        unanswered=counts.get("unanswered", 0),
        trained=counts.get("trained", 0),
        replacements=counts.get("replacements", 0),
        reused=counts.get("reused", 0),
    )


def _rejections(counts: Mapping[str, Any]) -> dict[str, int]:
    total: dict[str, int] = {}
    for domain in counts.values():
        for reason, count in domain.get("rejected", {}).items():
            total[reason] = total.get(reason, 0) + count
        if domain.get("unanswered"):
            total["unanswered"] = total.get("unanswered", 0) + domain["unanswered"]
    return dict(sorted(total.items()))


def _metrics(store: ArtifactStore, frozen: FrozenRun, stage: int) -> StageMetrics | None:
    key = frozen.layout.stage(stage).metrics
    return read_metrics(store, key) if store.find_manifest(key) is not None else None


def _method_name(frozen: FrozenRun) -> str:
    named = frozen.spec.method
    if isinstance(named, str):
        return named
    method = frozen.method
    preset = next((name for name, one in PRESETS.items() if one == method), None)
    return preset or f"{method.policy.value} + {method.head.value} head + {method.tail.value} tail"


def _usage(status: BudgetStatus) -> UsageReport:
    return UsageReport(
        scope=status.path.label,
        ceiling={unit: getattr(status.ceilings, unit) for unit in UNITS},
        spent={unit: getattr(status.spent, unit) for unit in UNITS},
        held={unit: getattr(status.held, unit) for unit in UNITS},
        unknown={unit: getattr(status.unknown, unit) for unit in UNITS},
    )
