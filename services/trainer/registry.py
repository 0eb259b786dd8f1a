"""Students as callers name them: by run and stage, or by name and version in the registry (DESIGN 5). Knows no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from baldistill.artifacts.layout import promoted_student, promoted_students, runs_folder
from baldistill.artifacts.ports import ArtifactRef, ArtifactStore, JsonValue, Manifest
from baldistill.errors import AlreadyThere, InvalidInput, NotKnown
from baldistill.specs.frozen import FrozenRun, find_run

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentRecord:
    """One student. stage 0: the base model as it is, which has metrics alone. macro_score: None while not measured."""

    frozen: FrozenRun
    stage: int
    student: ArtifactRef | None
    metrics: ArtifactRef | None
    trained_rows: int
    macro_score: float | None
    promoted_name: str = ""
    promoted_version: str = ""


class StudentRegistry:
    """Students and their registry in the artifact store: manifests that are never overwritten. Thread-safe."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def get(self, *, tenant: str, run_id: str, stage: int | None) -> StudentRecord:
        """Return one student; stage None: the newest. Raises NotKnown."""
        frozen, _ = find_run(self._store, tenant=tenant, run_id=run_id)
        stages = self._stages(frozen)
        wanted = max(stages, default=None) if stage is None else stage
        if wanted is None or wanted not in stages:
            there = ", ".join(map(str, stages)) or "none yet"
            raise NotKnown(kind="student", name=f"{run_id}, stage {wanted or 'any'}", remedy=f"there: {there}")
        return self._record(frozen, wanted)

    def of_run(self, *, tenant: str, run_id: str) -> list[StudentRecord]:
        """Return a run's students, newest first. Raises NotKnown."""
        frozen, _ = find_run(self._store, tenant=tenant, run_id=run_id)
        return [self._record(frozen, stage) for stage in sorted(self._stages(frozen), reverse=True)]

    def of_tenant(self, *, tenant: str) -> Iterator[StudentRecord]:
        """Yield all students of a tenant: runs in the order of their ids, of each the newest first."""
        prefix = runs_folder(tenant=tenant)
        for run_id in _children(self._store.list_manifests(prefix=prefix), prefix=prefix, last="spec.json"):
            yield from self.of_run(tenant=tenant, run_id=run_id)

    def promoted(self, *, tenant: str, name: str) -> list[StudentRecord]:
        """Return all versions of a name in the registry, in the reverse of their names' order."""
        keys = self._store.list_manifests(
            prefix=f"{promoted_students(tenant=tenant)}/{_checked(name, 'promoted_name')}"
        )
        found = []
        for key in sorted(keys, reverse=True):
            manifest = self._store.find_manifest(key)
            if manifest is not None:
                found.append(self._promoted(manifest, tenant=tenant))
        return found

    def promote(self, *, tenant: str, run_id: str, stage: int, name: str, version: str) -> StudentRecord:
        """Give a student a name and a version. Idempotent.

        Raises NotKnown, InvalidInput, AlreadyThere where the version is another student's.
        """
        record = self.get(tenant=tenant, run_id=run_id, stage=stage)
        if record.student is None:
            raise InvalidInput("the base model as it is cannot be promoted", field="stage")
        key = promoted_student(tenant=tenant, name=_checked(name, "name"), version=_checked(version, "version"))
        attributes: dict[str, JsonValue] = {"run_id": run_id, "stage": stage, "name": name, "version": version}
        wanted = Manifest(key=key, files={"student": record.student}, attributes=attributes)
        winner = self._store.create_manifest(wanted)
        if winner.files["student"].sha256 != record.student.sha256 or winner.attributes["run_id"] != run_id:
            other = f"it is the student of run '{winner.attributes['run_id']}', stage {winner.attributes['stage']}"
            raise AlreadyThere(kind="student", name=f"{name}, version {version}", difference=other)
        return self._promoted(winner, tenant=tenant)

    def _promoted(self, manifest: Manifest, *, tenant: str) -> StudentRecord:
        about = manifest.attributes
        record = self.get(tenant=tenant, run_id=str(about["run_id"]), stage=int(str(about["stage"])))
        return StudentRecord(
            frozen=record.frozen,
            stage=record.stage,
            student=record.student,
            metrics=record.metrics,
            trained_rows=record.trained_rows,
            macro_score=record.macro_score,
            promoted_name=str(about["name"]),
            promoted_version=str(about["version"]),
        )

    def _stages(self, frozen: FrozenRun) -> list[int]:
        layout = frozen.layout
        trained = [
            stage
            for stage in range(1, frozen.spec.stages + 1)
            if self._store.find_manifest(layout.stage(stage).student) is not None
        ]
        return ([0] if self._store.find_manifest(layout.stage(0).metrics) is not None else []) + trained

    def _record(self, frozen: FrozenRun, stage: int) -> StudentRecord:
        layout = frozen.layout.stage(stage)
        student = self._store.find_manifest(layout.student)
        metrics = self._store.find_manifest(layout.metrics)
        return StudentRecord(
            frozen=frozen,
            stage=stage,
            student=None if student is None else self._store.manifest_ref(student),
            metrics=None if metrics is None else self._store.manifest_ref(metrics),
            trained_rows=0 if student is None else student.rows,
            macro_score=None if metrics is None else self._macro(metrics),
        )

    def _macro(self, metrics: Manifest) -> float | None:
        macro = json.loads(self._store.read_bytes(metrics.files["metrics"]))["report"]["macro"]
        return None if macro is None else float(macro)


def _checked(name: str, field: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise InvalidInput("needs 1 to 64 of a-z, 0-9, '.', '_' and '-'", field=field)
    return name


def _children(keys: Iterator[str], *, prefix: str, last: str) -> Iterator[str]:
    """Yield the names right below a folder that have a manifest `last`."""
    for key in keys:
        name, _, rest = key.removeprefix(f"{prefix}/").partition("/")
        if rest == last:
            yield name
