"""A student on its way out: as a standard PEFT folder, and as answers to texts (`baldistill student`)."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.errors import InvalidInput
from baldistill.runtime.launching import ShouldStop
from baldistill.specs.frozen import FrozenRun
from baldistill.student.files import TOKENIZER_ROLE_PREFIX, adapter_files
from services.trainer.answering import StudentAnswer, answer_texts
from services.trainer.evaluation.reports import EvaluationReport
from services.trainer.model_card import model_card
from services.trainer.parity import Parity, check_parity

if TYPE_CHECKING:
    from baldistill.student.loading import Student


def export_student(
    store: ArtifactStore, frozen: FrozenRun, *, stage: int, folder: Path, checked_items: int = 0
) -> Path:
    """Write a stage's student so that `PeftModel.from_pretrained(base, folder)` loads it; returns `folder`.

    The folder appears whole or not at all. checked_items: test items on which a fresh process that loaded the folder must
    write what the student writes, before it appears. Raises InvalidInput where it exists or there is no such student,
    ParityBroken, ParityUnknown, ArtifactMissing, ArtifactCorrupt.
    """
    if folder.exists():
        raise InvalidInput("it exists already; choose another folder", path=folder)
    student = _require_student(store, frozen, stage=stage)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        whole = Path(scratch) / folder.name
        _write_folder(store, frozen, student, stage=stage, folder=whole)
        if checked_items:
            check_parity(store, frozen, student, folder=whole, items=checked_items)
        whole.rename(folder)
    return folder


def check_export(
    store: ArtifactStore, frozen: FrozenRun, student: Manifest, *, stage: int, items: int, should_stop: ShouldStop
) -> Parity:
    """Compare a stored student with its exported folder as a fresh process loads it. Raises what `check_parity` raises."""
    with tempfile.TemporaryDirectory(prefix="baldistill-") as scratch:
        folder = Path(scratch) / "student"
        _write_folder(store, frozen, student, stage=stage, folder=folder)
        return check_parity(store, frozen, student, folder=folder, items=items, should_stop=should_stop)


def _write_folder(store: ArtifactStore, frozen: FrozenRun, student: Manifest, *, stage: int, folder: Path) -> None:
    adapter = adapter_files(store, student)
    folder.mkdir()
    shutil.copyfile(adapter.weights, folder / "adapter_model.safetensors")
    shutil.copyfile(adapter.config, folder / "adapter_config.json")
    for role, ref in student.files.items():
        if role.startswith(TOKENIZER_ROLE_PREFIX):
            shutil.copyfile(store.local_path(ref), folder / role.removeprefix(TOKENIZER_ROLE_PREFIX))
    report = _report(store, frozen, stage=stage)
    (folder / "README.md").write_text(model_card(frozen, student, stage=stage, report=report))


def predict(
    store: ArtifactStore,
    frozen: FrozenRun,
    *,
    stage: int,
    texts: Sequence[str],
    on_answered: Callable[[int], None] | None = None,
) -> list[StudentAnswer]:
    """Return a stage's student's answers, in the order of the texts; stage 0 is the zero-shot base model.

    Raises InvalidInput where there is no such student, ArtifactMissing, ArtifactCorrupt.
    """
    return answer_texts(loaded_student(store, frozen, stage=stage), frozen, texts, on_answered=on_answered)


def loaded_student(store: ArtifactStore, frozen: FrozenRun, *, stage: int) -> Student:
    """Return a stage's student, ready to answer; stage 0 is the zero-shot base model. Raises as `predict` does."""
    student = None if stage == 0 else _require_student(store, frozen, stage=stage)
    # Deferred: torch takes seconds to import, a wrong stage is told at once.
    from baldistill.student.precision import begin_student_compute
    from baldistill.student.trained import load_run_student

    begin_student_compute(threads=frozen.spec.threads)
    return load_run_student(store, frozen, student)


def trained_stages(store: ArtifactStore, frozen: FrozenRun) -> list[int]:
    """Return the stages that have a student, in order."""
    stages = range(1, frozen.spec.stages + 1)
    return [stage for stage in stages if store.find_manifest(frozen.layout.stage(stage).student) is not None]


def _require_student(store: ArtifactStore, frozen: FrozenRun, *, stage: int) -> Manifest:
    student = store.find_manifest(frozen.layout.stage(stage).student)
    if student is None:
        there = ", ".join(map(str, trained_stages(store, frozen))) or "none yet"
        raise InvalidInput(f"run '{frozen.run_id}' has no student of stage {stage}; there: {there}", field="stage")
    return student


def _report(store: ArtifactStore, frozen: FrozenRun, *, stage: int) -> EvaluationReport | None:
    metrics = store.find_manifest(frozen.layout.stage(stage).metrics)
    if metrics is None:
        return None
    return EvaluationReport.from_json(json.loads(store.read_bytes(metrics.files["metrics"]))["report"])
