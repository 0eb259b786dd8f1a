"""From a run's stored student (a manifest) to a model in memory, checked against what the run was frozen with."""

from __future__ import annotations

import threading

from baldistill.artifacts.layout import base_model_manifest
from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.errors import ArtifactMissing, InvalidInput
from baldistill.specs.frozen import FrozenRun
from baldistill.student.base_models import BaseModel, require_same_weights, resolve_base_model
from baldistill.student.files import adapter_files
from baldistill.student.loading import Student, load_student
from baldistill.student.mirroring import mirrored_weights, take_mirrored
from baldistill.student.precision import resolve_dtype


def open_base(frozen: FrozenRun, store: ArtifactStore) -> BaseModel:
    """Find the run's base model on this machine, else take it from the store.

    Raises InvalidInput where it is in neither or its weights are others, ArtifactCorrupt, StorageFull.
    """
    name, expected = frozen.base_model.name, frozen.base_model.weights_sha256
    mirrored = mirrored_weights(store, name) == expected
    try:
        base = resolve_base_model(name)
    except InvalidInput:
        if not mirrored:
            raise
        base = None
    if mirrored and (base is None or base.weights_sha256 != expected):
        base = take_mirrored(store, name)
    if base is None:
        raise ArtifactMissing(key=base_model_manifest(name=name))
    require_same_weights(base, expected)
    return base


def load_run_student(store: ArtifactStore, frozen: FrozenRun, student: Manifest | None) -> Student:
    """Load a stage's student for writing and scoring; None: the zero-shot base model.

    Raises InvalidInput, ArtifactMissing, ArtifactCorrupt.
    """
    loaded = load_student(
        open_base(frozen, store),
        dtype=resolve_dtype(frozen.spec.student.dtype),
        adapter=adapter_files(store, student) if student is not None else None,
    )
    require_context(frozen, loaded)
    return loaded


def require_context(frozen: FrozenRun, student: Student) -> None:
    """Refuse texts longer than the base model was made for. Raises InvalidInput."""
    wanted = frozen.spec.student.training.max_tokens
    if wanted > student.context_tokens:
        raise InvalidInput(
            f"{wanted} tokens are more than the base model's context of {student.context_tokens}",
            field="student.training.max_tokens",
        )


class LastStudent:
    """Keeps the student that was used last: a worker's shards come in runs of the same one. Thread-safe."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._name: tuple[str, str] | None = None
        self._student: Student | None = None

    def load(self, frozen: FrozenRun, student: Manifest) -> Student:
        """Return the loaded student, from memory where it was the last one."""
        name = (frozen.base_model.weights_sha256 + frozen.spec.student.dtype, self._store.manifest_ref(student).sha256)
        with self._lock:
            if self._student is None or self._name != name:
                # Freed first: two students at once need twice the memory.
                self._student = None
                self._student = load_run_student(self._store, frozen, student)
                self._name = name
            return self._student
