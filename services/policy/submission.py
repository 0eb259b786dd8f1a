"""From what a person asked to what is frozen: looked up once, checked before anything is spent (DESIGN 4)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from baldistill.artifacts.ports import ArtifactRef, ArtifactStore, Manifest
from baldistill.artifacts.schemas import StagePlan
from baldistill.datasets.examples import Dataset
from baldistill.datasets.storage import latest_version, load_dataset
from baldistill.errors import InvalidInput
from baldistill.events.facts import Fact, RunState
from baldistill.pricing.book import FREE, BookedPrice, PriceBook
from baldistill.specs.frozen import FrozenDataset, FrozenRun, load_frozen_run
from baldistill.specs.methods import BalancingPolicy, TailFilling
from baldistill.specs.runspec import BudgetSpec, DatasetSpec, RunSpec, TeacherSpec
from baldistill.tasks.registry import task_of
from services.policy.labels import labels_of_run, shows_labels
from services.policy.oracle_data import check_oracle_data
from services.policy.planning import plan_all_stages
from services.policy.ports import BaseModelCatalogue, RunRecord, RunRegistry
from services.policy.preview import method_calls
from services.policy.run_control import announcement, resumed


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A run that could be submitted: the frozen spec, its data and the plans of all its stages."""

    frozen: FrozenRun
    dataset: Dataset
    plans: tuple[StagePlan, ...]
    planned_calls: int


def propose(
    spec: RunSpec,
    *,
    store: ArtifactStore,
    base_models: BaseModelCatalogue,
    prices: PriceBook,
    known: FrozenRun | None = None,
) -> Proposal:
    """Look up and check everything that a spec names; store nothing. Raises InvalidInput that names the spec's field.

    known: the run of this name as it was frozen before: a price that the spec does not name stays what it was then.
    """
    dataset = _find_dataset(spec, store=store)
    _check_data(spec, dataset)
    check_oracle_data(spec, dataset)
    task = task_of(spec.task.kind)
    labels = labels_of_run(task, dataset, store=store)
    method = spec.resolved_method()
    plans = plan_all_stages(
        method=method,
        pool=pool_counts(dataset),
        budget=spec.budget.examples,
        stages=spec.stages,
        seed=spec.seed,
    )
    planned_calls = method_calls(plans, method)
    priced = _frozen_price(spec.teacher, known) or prices.price_of(spec.teacher)
    resolved = spec.model_copy(
        update={
            "budget": _resolved_budget(spec, planned_calls),
            "dataset": _resolved_dataset(spec, dataset),
            "teacher": _resolved_teacher(spec.teacher, priced),
        }
    )
    unnamed = FrozenRun(
        run_id="",
        spec=resolved,
        dataset=FrozenDataset(name=dataset.name, version=dataset.version, sha256=dataset.sha256),
        labels=labels,
        show_labels_to_student=shows_labels(task, labels, list_labels=spec.task.list_labels),
        templates=task.templates,
        base_model=base_models.describe(spec.student.base),
        price_version=priced.version,
    )
    frozen = unnamed.model_copy(update={"run_id": run_id_of(unnamed)})
    return Proposal(frozen=frozen, dataset=dataset, plans=tuple(plans), planned_calls=planned_calls)


def find_frozen(spec: RunSpec, *, store: ArtifactStore, registry: RunRegistry) -> FrozenRun | None:
    """Return the run of a spec's name as it was frozen; None where there is no such run."""
    record = registry.find_by_name(tenant=spec.tenant, name=spec.name)
    return None if record is None else load_frozen_run(store, record.spec)


def frozen_version(spec: RunSpec, known: FrozenRun | None) -> str | None:
    """Return the data set version that a run of this name was frozen with; None where there is none of this data set."""
    return None if known is None or known.dataset.name != spec.dataset.name else known.dataset.version


def with_version(spec: RunSpec, version: str) -> RunSpec:
    """Return the spec over one version of its data set."""
    return spec.model_copy(update={"dataset": spec.dataset.model_copy(update={"version": version})})


def submit(
    proposal: Proposal, *, store: ArtifactStore, registry: RunRegistry, limited: bool = False
) -> tuple[RunRecord, list[Fact]]:
    """Freeze a run, or find it: idempotent by tenant and name. Returns its record and the facts to publish.

    limited: the tenant's limit of unfinished runs counts. Raises InvalidInput where a run of that name has another spec,
    LimitReached.
    """
    frozen = proposal.frozen
    known = registry.find_by_name(tenant=frozen.spec.tenant, name=frozen.spec.name)
    if known is not None and known.run_id != frozen.run_id:
        raise InvalidInput(
            f"a run of this name exists with another spec ({_difference(store, known.spec, frozen)});"
            " choose another name, or delete that run with `baldistill runs delete`",
            field="name",
        )
    stored = store.put_bytes(folder=frozen.layout.folder, name="spec.json", data=frozen.canonical_json())
    winner = store.create_manifest(Manifest(key=frozen.layout.spec, files={"spec": stored})).files["spec"]
    record = registry.create(
        RunRecord(
            tenant=frozen.spec.tenant,
            run_id=frozen.run_id,
            name=frozen.spec.name,
            spec=winner,
            state=RunState.RUNNING,
            epoch=1,
            stage=0,
            baseline_evaluated=False,
            budget_exhausted=False,
            brought_here_by="",
            reason="",
            announced=False,
        ),
        limited=limited,
    )
    return record, announce(record)


def resume(record: RunRecord, *, registry: RunRegistry) -> RunRecord:
    """Set a blocked or paused run going again under a new epoch; any other state is returned as it is.

    For the embedded mode, whose money nobody freezes. A service resumes by `RunCommands`.
    """
    if record.state not in {RunState.BLOCKED, RunState.PAUSED}:
        return record
    going = resumed(record)
    registry.replace(expected=record, changed=going)
    return registry.find(tenant=record.tenant, run_id=record.run_id) or going


def announce(record: RunRecord) -> list[Fact]:
    """Return the facts that set a run going, or going again: replay is resume (DESIGN 6)."""
    return announcement(record)


def run_id_of(frozen: FrozenRun) -> str:
    """Return the run id: readable, and another one for another spec.

    Stored answers are kept by run id. So a run that is deleted and submitted again with the same spec finds the answers
    that were paid for, and with another spec, whose prompts may differ, it does not.
    """
    digest = hashlib.sha256(frozen.model_copy(update={"run_id": ""}).canonical_json()).hexdigest()
    return f"{frozen.spec.name}-{digest[:8]}"


def pool_counts(dataset: Dataset) -> Mapping[str, int]:
    """Return n_d of every domain that has rows in the pool."""
    return {name: counts.pool for name, counts in dataset.domains.items() if counts.pool}


def _find_dataset(spec: RunSpec, *, store: ArtifactStore) -> Dataset:
    name = spec.dataset.name
    version = spec.dataset.version or latest_version(store, tenant=spec.tenant, name=name)
    if version is None:
        raise InvalidInput(
            f"data set '{name}' is not imported; run `baldistill data import {name} --train FILE`"
            " or name the file under dataset.train",
            field="dataset.name",
        )
    return load_dataset(store, tenant=spec.tenant, name=name, version=version)


def _check_data(spec: RunSpec, dataset: Dataset) -> None:
    pool = pool_counts(dataset)
    missing = [name for name in spec.dataset.domains if name not in pool]
    if missing:
        raise InvalidInput(
            f"declared domain '{missing[0]}' has no item in data set {dataset.name}",
            field="dataset.domains",
        )
    method, rows = spec.resolved_method(), sum(pool.values())
    takes_only_real_rows = method.has_stages and method.tail is TailFilling.NONE
    if takes_only_real_rows and spec.budget.examples > rows:
        raise InvalidInput(
            f"the method takes real examples only and the pool has {rows}, fewer than {spec.budget.examples}",
            field="budget.examples",
        )
    if method.policy is BalancingPolicy.NONE and spec.budget.calls:
        raise InvalidInput("a zero-shot run makes no calls", field="budget.calls")


def _resolved_budget(spec: RunSpec, planned_calls: int) -> BudgetSpec:
    calls = planned_calls if spec.budget.calls is None else spec.budget.calls
    return spec.budget.model_copy(update={"calls": calls})


def _resolved_dataset(spec: RunSpec, dataset: Dataset) -> DatasetSpec:
    """Name the version that was found; where it was imported from is no part of a run."""
    return DatasetSpec(name=dataset.name, version=dataset.version, domains=spec.dataset.domains)


def _resolved_teacher(teacher: TeacherSpec, priced: BookedPrice) -> TeacherSpec:
    """Name the price that bounds and bookings use. One that costs nothing is left as it was written."""
    return teacher if priced.version == FREE else teacher.model_copy(update={"price": priced.price})


def _frozen_price(teacher: TeacherSpec, known: FrozenRun | None) -> BookedPrice | None:
    """Return the price that a run of the same teacher was frozen with: a newer price list makes no other run of it."""
    if known is None or teacher.price is not None or (price := known.spec.teacher.price) is None:
        return None
    if known.spec.teacher.model_copy(update={"price": None}) != teacher or known.price_version.startswith("spec-"):
        return None
    return BookedPrice(price=price, version=known.price_version, source="the run's own, frozen at submit")


def _difference(store: ArtifactStore, stored: ArtifactRef, wanted: FrozenRun) -> str:
    """Name the first field that differs, as a person would look for it."""
    before = FrozenRun.model_validate_json(store.read_bytes(stored)).model_dump(mode="json")
    after = wanted.model_dump(mode="json") | {"run_id": before["run_id"]}
    path, old, new = _first_difference(before, after, path=())
    return f"{'.'.join(path).removeprefix('spec.')} was {old!r}, now {new!r}"


def _first_difference(old: object, new: object, *, path: tuple[str, ...]) -> tuple[tuple[str, ...], object, object]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old:
            if old[key] != new.get(key):
                return _first_difference(old[key], new.get(key), path=(*path, key))
    return path, old, new
