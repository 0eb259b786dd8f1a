"""Reads a finished run as a cell's outcome: the stored report and the predictions beside it. The one place that knows both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.artifacts.tables import read_table
from baldistill.errors import InvalidInput
from baldistill.specs.frozen import FrozenRun
from services.cli.comparing.diagnostics import run_diagnostics
from services.cli.comparing.grid import Cell
from services.cli.comparing.outcomes import CREDIT, SHARED_LABELS, CellOutcome, ItemOutcomes
from services.cli.comparing.ratios import ANSWER_NLL, MACRO, MICRO, TAIL
from services.cli.reporting.model import RunReport

_LABEL_SEPARATOR = ";"
# Names of metrics in the stored report: over labels, over sets of labels; all others are means of the items' credit.
_LABEL_METRICS = frozenset({"f1", "pair"})
_SET_METRIC = "set"
# A million items keep their six digits; more would be noise in a committed file.
_NLL_DIGITS = 5


def read_cell(cell: Cell, *, name: str, frozen: FrozenRun, report: RunReport, store: ArtifactStore) -> CellOutcome:
    """Return what came of a run that is over. Raises InvalidInput where its last student was never measured."""
    manifest = _last_metrics(store, frozen)
    stored = json.loads(store.read_bytes(manifest.files["metrics"]))["report"]
    usage = report.run_usage
    return CellOutcome(
        name=name,
        row=cell.row,
        method=report.method,
        target=report.target,
        seed=frozen.spec.seed,
        noise=cell.noise,
        teacher=report.teacher,
        state=report.state,
        metric=stored["metric"],
        test_items=stored["items"],
        scores={
            MACRO: stored["macro"],
            MICRO: stored["micro"],
            TAIL: stored["groups"]["tail"]["macro"],
            ANSWER_NLL: stored["macro_answer_nll"],
        },
        domains={
            domain: {field: one[field] for field in ("pool", "items", "score", "answer_nll")}
            for domain, one in stored["domains"].items()
        },
        calls=usage.spent["calls"] if usage else 0,
        trained_rows=sum(stage.total.trained for stage in report.stages),
        minutes=sum(minutes for stage in report.stages for minutes in stage.minutes.values()),
        items=item_outcomes(list(read_table(store, manifest.files["predictions"])), stored=stored),
        diagnostics=run_diagnostics(store, frozen),
    )


def item_outcomes(rows: Sequence[Mapping[str, Any]], *, stored: Mapping[str, Any]) -> ItemOutcomes:
    """Return the rows of a predictions file as numbers. stored: the evaluation's report. Pure."""
    metric = stored["metric"]
    over_sets = metric == _SET_METRIC
    labels_of = _parts if over_sets else _single
    truths = [labels_of(row["truth"]) for row in rows]
    over_labels = metric in _LABEL_METRICS or (
        over_sets and all(row["domain"] in truth for row, truth in zip(rows, truths, strict=True))
    )
    labels = sorted({label for truth in truths for label in truth}) if over_labels else []
    number_of = {label: number for number, label in enumerate(labels)}
    predicted = [labels_of(row["prediction"]) for row in rows] if over_labels else [set[str]() for _ in rows]
    domains = sorted({row["domain"] for row in rows})
    return ItemOutcomes(
        kind=SHARED_LABELS if over_labels else CREDIT,
        domains=tuple(domains),
        labels=tuple(labels),
        domain=tuple(domains.index(row["domain"]) for row in rows),
        truth=tuple(_numbers(truth, number_of) for truth in truths) if over_labels else (),
        predicted=tuple(_numbers(one, number_of) for one in predicted) if over_labels else (),
        unknown=tuple(sum(label not in number_of for label in one) for one in predicted),
        credit=tuple(_credit(row) for row in rows),
        answer_nll=tuple(round(row["answer_nll"], _NLL_DIGITS) for row in rows),
        pairs=over_sets,
        digest=hashlib.sha256("\n".join(row["id"] for row in rows).encode()).hexdigest()[:16],
        tail=tuple(name for name, one in stored["domains"].items() if one["group"] == TAIL),
    )


def _last_metrics(store: ArtifactStore, frozen: FrozenRun) -> Manifest:
    for stage in range(frozen.spec.stages, -1, -1):
        manifest = store.find_manifest(frozen.layout.stage(stage).metrics)
        if manifest is not None and (stage or not frozen.method.has_stages):
            return manifest
    raise InvalidInput(f"run {frozen.spec.name} has no student that was measured")


def _credit(row: Mapping[str, Any]) -> float:
    """Older predictions have no credit: a label is right or wrong."""
    credit = row.get("credit")
    return float(row["prediction"] == row["truth"]) if credit is None else float(credit)


def _single(answer: str) -> set[str]:
    return {answer}


def _parts(answer: str) -> set[str]:
    return {part.strip() for part in answer.split(_LABEL_SEPARATOR) if part.strip()}


def _numbers(labels: set[str], number_of: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sorted(number_of[label] for label in labels if label in number_of))
