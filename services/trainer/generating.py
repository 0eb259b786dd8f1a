"""Questions of callers, answered by the student that they name. The one of the last question stays loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baldistill.artifacts.ports import ArtifactRef, ArtifactStore, require_manifest
from baldistill.specs.frozen import load_frozen_run
from baldistill.student.precision import begin_student_compute
from baldistill.student.trained import LastStudent
from services.trainer.answering import answer_texts
from services.trainer.evaluate_job import with_longest_answer


class LoadedStudents:
    """Answers one request after the other."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._students = LastStudent(store)

    def answer(self, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return one answer per text. asked: {spec, stage, texts, max_new_tokens}, as `process_generator` sends it.

        Raises InvalidInput, ArtifactMissing, ArtifactCorrupt.
        """
        frozen = load_frozen_run(self._store, ArtifactRef(**asked["spec"]))
        begin_student_compute(threads=frozen.spec.threads)
        manifest = require_manifest(self._store, frozen.layout.stage(asked["stage"]).student)
        student = self._students.load(frozen, manifest)
        limited = with_longest_answer(frozen, max_new_tokens=asked["max_new_tokens"])
        return [
            {"text": one.text, "answer": one.answer, "tokens": one.tokens}
            for one in answer_texts(student, limited, asked["texts"])
        ]
