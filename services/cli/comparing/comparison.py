"""From finished cells to one comparison: a row for each method, and its differences to the baseline. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from services.cli.comparing.bootstrap import RESAMPLES, Difference, draw_resamples, paired_difference
from services.cli.comparing.outcomes import CellOutcome
from services.cli.comparing.ratios import LOWER_IS_BETTER, METRICS, MeanOfRatios, metrics_of

BETTER, WORSE, UNDECIDED = "better", "worse", ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMethod:
    """One row. scores: means over seeds.   by_seed: the same for each seed.   calls, minutes: means over seeds.

    differences: to the baseline, empty for the baseline itself.   domains: mean score by domain, largest pool first.
    """

    row: str
    method: str
    noise: float
    seeds: tuple[int, ...]
    scores: Mapping[str, float | None]
    by_seed: Mapping[int, Mapping[str, float | None]]
    calls: float
    trained_rows: float
    minutes: float
    domains: Mapping[str, float | None]
    differences: Mapping[str, Difference]

    def verdict(self, metric: str) -> str:
        """Return `better` or `worse` where the interval excludes 0, else nothing."""
        difference = self.differences.get(metric)
        if difference is None or not difference.excludes_zero:
            return UNDECIDED
        return BETTER if (difference.estimate > 0) is (metric not in LOWER_IS_BETTER) else WORSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All rows. missing: cells that have no result, with why.   pool: n_d by domain, largest first."""

    name: str
    baseline: str
    teacher: str
    metric: str
    test_items: int
    rows: tuple[ComparedMethod, ...]
    missing: Mapping[str, str]
    pool: Mapping[str, int]
    resamples: int
    diagnostics: Mapping[str, Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        document = asdict(self)
        for row, compared in zip(document["rows"], self.rows, strict=True):
            row["verdicts"] = {metric: compared.verdict(metric) for metric in compared.differences}
        return document


def compare_cells(
    outcomes: Sequence[CellOutcome],
    *,
    name: str,
    baseline: str,
    missing: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Return the comparison of the cells that there are, rows in the order of the cells. baseline: a row's name."""
    by_row: dict[str, list[CellOutcome]] = defaultdict(list)
    for outcome in outcomes:
        by_row[outcome.row].append(outcome)
    metrics = {row: {one.seed: metrics_of(one.items) for one in cells} for row, cells in by_row.items()}
    differences = {
        row: _differences(cells, by_row.get(baseline, []), metrics=metrics, baseline=baseline, resamples=resamples)
        for row, cells in by_row.items()
    }
    first = outcomes[0] if outcomes else None
    pool = {name: one["pool"] for name, one in first.domains.items()} if first else {}
    largest_first = dict(sorted(pool.items(), key=lambda pair: (-pair[1], pair[0])))
    return Comparison(
        name=name,
        baseline=baseline,
        teacher=first.teacher if first else "",
        metric=first.metric if first else "",
        test_items=first.test_items if first else 0,
        rows=tuple(_row(row, cells, differences[row], domains=largest_first) for row, cells in by_row.items()),
        missing=dict(missing or {}),
        pool=largest_first,
        resamples=resamples,
        diagnostics={one.name: one.diagnostics for one in outcomes if one.diagnostics},
    )


def _differences(
    cells: Sequence[CellOutcome],
    reference: Sequence[CellOutcome],
    *,
    metrics: Mapping[str, Mapping[int, Mapping[str, MeanOfRatios]]],
    baseline: str,
    resamples: int,
) -> dict[str, Difference]:
    """Return the differences over the seeds that both have, on the same items."""
    theirs = {one.seed: one.items for one in reference}
    shared = [one for one in cells if one.seed in theirs and theirs[one.seed].digest == one.items.digest]
    if not shared or cells[0].row == baseline:
        return {}
    drawn = draw_resamples(
        {one.seed: one.items.domain for one in shared},
        {one.seed: one.items.digest for one in shared},
        resamples=resamples,
    )
    found = {
        metric: paired_difference(
            {seed: of[metric] for seed, of in metrics[cells[0].row].items() if metric in of},
            {seed: of[metric] for seed, of in metrics[baseline].items() if metric in of},
            drawn,
        )
        for metric in METRICS
    }
    return {metric: one for metric, one in found.items() if one is not None}


def _row(
    row: str, cells: Sequence[CellOutcome], differences: Mapping[str, Difference], *, domains: Mapping[str, int]
) -> ComparedMethod:
    return ComparedMethod(
        row=row,
        method=cells[0].method,
        noise=cells[0].noise,
        seeds=tuple(one.seed for one in cells),
        scores={metric: _mean([one.scores.get(metric) for one in cells]) for metric in METRICS},
        by_seed={one.seed: {metric: one.scores.get(metric) for metric in METRICS} for one in cells},
        calls=float(np.mean([one.calls for one in cells])),
        trained_rows=float(np.mean([one.trained_rows for one in cells])),
        minutes=float(np.mean([one.minutes for one in cells])),
        domains={name: _mean([one.domains.get(name, {}).get("score") for one in cells]) for name in domains},
        differences=differences,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
