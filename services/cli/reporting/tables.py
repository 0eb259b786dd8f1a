"""The report's tables as text cells: terminal and Markdown draw the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from services.cli.output import score, usd
from services.cli.reporting.model import RowCounts, RunReport, StageReport, UsageReport
from services.trainer.evaluation.notes import metric_notes
from services.trainer.evaluation.reports import EvaluationReport, Group

REFERENCE_NAMES = {"majority": "majority", "tfidf_logistic_regression": "TF-IDF + LR"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTable:
    """One table. The first column is text, the others are numbers."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


def report_tables(report: RunReport) -> list[ReportTable]:
    """Return all tables of a report that have rows. Each fits into 80 columns for up to five stages."""
    tables = [stage_table(report), score_table(report), row_table(report), minutes_table(report), usage_table(report)]
    return [table for table in tables if table.rows]


def stage_table(report: RunReport) -> ReportTable:
    """Stage by stage: rows and scores; below, what the scores are read against."""
    rows = []
    metric = "score"
    trained = 0
    for stage in report.stages:
        trained += stage.total.trained
        if stage.metrics is not None:
            metric = stage.metrics.metric.value
        name = "0 zero-shot" if stage.stage == 0 else str(stage.stage)
        rows.append((name, str(trained), *_scores(stage.metrics)))
    rows += [
        (REFERENCE_NAMES.get(name, name), str(trained), *_scores(metrics))
        for name, metrics in report.references.items()
    ]
    newest = next((stage.metrics for stage in reversed(report.stages) if stage.metrics is not None), None)
    notes = "".join(f" {note}" for note in metric_notes(newest)) if newest else ""
    return ReportTable(
        title="Stage by stage",
        headings=("stage", "rows", f"macro {metric}", "micro", "head", "tail", "NLL", "items", "no answer"),
        rows=tuple(rows),
        caption=(
            "majority, TF-IDF + LR (logistic regression): learned from the last student's rows."
            f" head, tail: macro {metric} of the group. NLL: of the true answer, nats per token."
            f" no answer: none that the task knows, counted as wrong. -: fewer than 30 items, or not measured.{notes}"
        ),
    )


def score_table(report: RunReport) -> ReportTable:
    """Per domain, largest first: the score after each stage. `~` marks a score at chance."""
    measured = [stage for stage in report.stages if stage.metrics is not None]
    rows = []
    for name in _by_size(report):
        cells = [name, "tail" if name in report.tail else "head", str(report.pool[name])]
        last = measured[-1].metrics.domains.get(name) if measured and measured[-1].metrics else None
        cells.append(str(last.items) if last else "0")
        for stage in measured:
            domain = stage.metrics.domains.get(name) if stage.metrics else None
            mark = "~" if domain and domain.at_chance else ""
            cells.append(f"{score(domain.score if domain else None)}{mark}")
        rows.append(tuple(cells))
    return ReportTable(
        title="Scores by domain",
        headings=("domain", "group", "pool", "test items", *(f"after {stage.stage}" for stage in measured)),
        rows=tuple(rows) if measured else (),
        caption="tail: pool smaller than B / l. ~: at chance, within 2 standard errors of the majority answer.",
    )


def row_table(report: RunReport) -> ReportTable:
    """Per domain and stage: asked / accepted / trained on."""
    stages = [stage for stage in report.stages if stage.stage > 0]
    rows = []
    for name in _by_size(report):
        counts = [stage.rows.get(name) for stage in stages]
        cells = tuple(f"{one.asked}/{one.accepted}/{one.trained}" if one else "0/0/0" for one in counts)
        rows.append((name, str(report.pool[name]), *cells, str(sum(one.trained for one in counts if one))))
    totals = tuple(f"{stage.total.asked}/{stage.total.accepted}/{stage.total.trained}" for stage in stages)
    rows.append(("all", str(sum(report.pool.values())), *totals, str(sum(stage.total.trained for stage in stages))))
    rejections = [
        f"stage {stage.stage}: {count} {reason}" for stage in stages for reason, count in stage.rejections.items()
    ]
    return ReportTable(
        title="Rows by domain: asked of the teacher / accepted / trained on",
        headings=("domain", "pool", *(f"stage {stage.stage}" for stage in stages), "trained in all"),
        rows=tuple(rows) if stages else (),
        caption=" ".join(_row_remarks(stages, rejections)),
    )


def _row_remarks(stages: Sequence[StageReport], rejections: Sequence[str]) -> Iterator[str]:
    total = sum((stage.total for stage in stages), RowCounts())
    if rejections:
        yield f"Not accepted: {'; '.join(rejections)}."
    if total.replacements:
        yield f"Asked in place of rejected ones: {total.replacements}."
    if total.reused:
        yield f"Paid for by other runs, no call: {total.reused}."


def minutes_table(report: RunReport) -> ReportTable:
    """Wall-clock minutes of each step of each stage."""
    steps = list(dict.fromkeys(step for stage in report.stages for step in stage.minutes))
    rows = [
        (step, *(f"{stage.minutes[step]:.1f}" if step in stage.minutes else "-" for stage in report.stages))
        for step in steps
    ]
    return ReportTable(
        title="Minutes by step",
        headings=("step", *(f"stage {stage.stage}" for stage in report.stages)),
        rows=tuple(rows),
        caption="train includes the evaluation of its student; a step that was stopped counts the pause.",
    )


def usage_table(report: RunReport) -> ReportTable:
    """The budget: planned, allowed, spent, UNKNOWN; the run first, then its stages."""
    scopes = [usage for usage in report.usage if "domain" not in usage.scope and usage.scope != "tenant"]

    def row(name: str, cells: Callable[[UsageReport], str]) -> tuple[str, ...]:
        return (name, *(cells(usage) for usage in scopes))

    rows = (
        row("calls planned", lambda one: str(report.planned_calls) if one.scope == "run" else "-"),
        row("calls allowed", lambda one: _count(one.ceiling["calls"])),
        row("calls spent", lambda one: _count(one.spent["calls"])),
        row("of these UNKNOWN", lambda one: _count(one.unknown["calls"])),
        row("calls held", lambda one: _count(one.held["calls"])),
        row("tokens allowed", lambda one: _count(one.ceiling["tokens"])),
        row("tokens spent", lambda one: _count(one.spent["tokens"])),
        row("cost allowed", lambda one: "-" if one.ceiling["nano_usd"] is None else usd(one.ceiling["nano_usd"])),
        row("cost spent", lambda one: usd(one.spent["nano_usd"])),
    )
    return ReportTable(
        title="Budget",
        headings=("", *(usage.scope for usage in scopes)),
        rows=rows if scopes else (),
        caption="UNKNOWN: sent, outcome never learned; counted as spent at their bound. -: no ceiling.",
    )


def header_lines(report: RunReport) -> Iterator[str]:
    """Yield what stands above the tables."""
    yield f"Run {report.name} ({report.run_id}): {report.state.replace('_', ' ')}"
    yield f"Method {report.method}, target {report.target}, B = {report.budget_examples}, data {report.dataset}"
    yield f"Student {report.base_model}, teacher {report.teacher}"
    if report.reason:
        yield f"Reason: {report.reason}"


def _scores(metrics: EvaluationReport | None) -> tuple[str, ...]:
    if metrics is None:
        return ("-",) * 7
    groups = metrics.groups
    return (
        score(metrics.macro),
        score(metrics.micro),
        score(groups[Group.HEAD].macro),
        score(groups[Group.TAIL].macro),
        score(metrics.macro_answer_nll),
        str(metrics.items),
        str(metrics.unparsable),
    )


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _by_size(report: RunReport) -> list[str]:
    return sorted(report.pool, key=lambda name: (-report.pool[name], name))
