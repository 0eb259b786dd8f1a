"""Reads what the trainer measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from baldistill.artifacts.ports import ArtifactStore, require_manifest
from services.trainer.evaluation.reports import EvaluationReport


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMetrics:
    """A stage's scores and, beside them, the reference rows by name."""

    report: EvaluationReport
    references: Mapping[str, EvaluationReport]


def read_metrics(store: ArtifactStore, key: str) -> StageMetrics:
    """Read a stage's metrics by their manifest's key. Raises ArtifactMissing, ArtifactCorrupt."""
    content = json.loads(store.read_bytes(require_manifest(store, key).files["metrics"]))
    return StageMetrics(
        report=EvaluationReport.from_json(content["report"]),
        references={name: EvaluationReport.from_json(one) for name, one in content["references"].items()},
    )
