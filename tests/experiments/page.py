"""Writes docs/results.md out of the kept results: what was measured, by which command, and what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from services.cli.comparing.comparison import Comparison, compare_cells
from services.cli.comparing.markdown import table_markdown
from services.cli.comparing.plots import draw_comparison, draw_lines
from services.cli.comparing.ratios import MACRO
from services.cli.comparing.tables import comparison_tables, diagnostics_tables, difference_table
from services.cli.reporting.model import NO_QUALITY_CLAIMS
from tests.experiments.kept_results import KeptResult
from tests.experiments.study import NOTES, SMALL, STAGES, STUDY, Experiment

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"
PICTURES = ROOT / "docs" / "results"

_HEAD = """\
# The method measured

Written by `make experiments` out of `tests/experiments/results/` (one small file for each run: numbers only). The same
command goes on where it was stopped, also on another machine. Real data: [data formats](reference/data-formats.md);
how differences are judged: [compare](reference/compare.md).
"""


def write_page() -> Path:
    """Write the page and its pictures; return its path."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    parts = [_HEAD, _progress(), *_study(), *_stages(), *_small()]
    PAGE.write_text("\n".join(part.rstrip("\n") + "\n" for part in parts), encoding="utf-8")
    return PAGE


def kept(experiment: Experiment) -> list[KeptResult]:
    """Return the results that there are, in the order of the cells."""
    found = (experiment.kept(cell) for cell in experiment.cells())
    return [one for one in found if one is not None]


def comparison_of(experiment: Experiment, *, baseline: str = "") -> Comparison | None:
    """Return what the kept results say, None where there is none. baseline: the experiment's own where empty."""
    results = kept(experiment)
    if not results:
        return None
    outcomes = [one.outcome for one in results]
    return compare_cells(outcomes, name=experiment.name, baseline=baseline or experiment.baseline or outcomes[0].row)


def _progress() -> str:
    lines = ["| experiment | runs | done | minutes | machine | dates |", "|---|---:|---:|---:|---|---|"]
    for experiment in (STUDY, *STAGES, *SMALL):
        results = kept(experiment)
        minutes = sum(one.outcome.minutes for one in results)
        machines = ", ".join(sorted({one.machine for one in results})) or "-"
        dates = sorted({one.date for one in results})
        when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}" if dates else "-"
        lines.append(
            f"| {experiment.title} | {len(experiment.cells())} | {len(results)} | {minutes:.0f} | {machines} | {when} |"
        )
    return "\n".join(lines)


def _study() -> Iterator[str]:
    yield f"## {STUDY.title}"
    comparison = comparison_of(STUDY)
    yield (
        "`make experiments`, or one table of it:\n\n```\n"
        "baldistill data import trec50 --train train_5500.label --test TREC_10.label --format trec\n"
        "baldistill data longtail trec50 --test-per-domain 20 --head 200 --tail 3 --min-items 60 --seed 1 --as trec_lt\n"
        f"baldistill compare tests/experiments/specs/trec_lt.yaml --methods {','.join(STUDY.methods)} \\\n"
        f"    --seeds {','.join(map(str, STUDY.seeds))} --noise 0,0.2 --baseline random_ft\n```"
    )
    if comparison is None:
        yield "Not one of its runs is done yet."
        return
    yield NO_QUALITY_CLAIMS[comparison.teacher]
    yield from (table_markdown(table, level=3) for table in comparison_tables(comparison))
    yield from _further_differences(STUDY)
    yield from (table_markdown(table, level=3) for table in diagnostics_tables(comparison.diagnostics))
    pictures = draw_comparison(comparison, folder=_folder(STUDY))
    yield "\n".join(f"![{STUDY.title}](results/{STUDY.name}/{path.name})" for path in pictures)
    yield from _note(STUDY)


def _further_differences(experiment: Experiment) -> Iterator[str]:
    done = {one.outcome.row for one in kept(experiment)}
    for baseline in experiment.also_against:
        comparison = comparison_of(experiment, baseline=baseline) if baseline in done else None
        if comparison is not None:
            yield table_markdown(difference_table(comparison), level=3)


def _stages() -> Iterator[str]:
    yield "## The number of stages (figure 4 of the paper)"
    lines: dict[str, list[tuple[float, float]]] = {}
    rows = []
    for experiment in (STUDY, *STAGES):
        comparison = comparison_of(experiment)
        for row in comparison.rows if comparison else ():
            macro = row.scores[MACRO]
            if row.method in STAGES[0].methods and not row.noise and macro is not None:
                lines.setdefault(row.method, []).append((experiment.base.stages, macro))
                difference = row.differences.get(MACRO)
                told = (
                    f"{difference.estimate:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]" if difference else "-"
                )
                rows.append(
                    f"| {experiment.base.stages} | {row.method} | {macro:.3f} | {told} {row.verdict(MACRO)} | {len(row.seeds)} |"
                )
    if not rows:
        yield "Not one of its runs is done yet."
        return
    yield "\n".join(["| K | method | macro F1 | to random_ft, 95 % | seeds |", "|---:|---|---:|---|---:|", *rows])
    draw_lines(lines, title="trec_lt, B = 460", across="stages K", up="macro F1", path=PICTURES / "stages.png")
    yield "![macro F1 by number of stages](results/stages.png)"
    yield from _note(STAGES[0])


def _small() -> Iterator[str]:
    yield "## One small run of each other kind of data"
    yield "B <= 100, K = 2, 10 test items a domain: importer, task and metric work. No claim about quality."
    lines = ["| data | method | teacher | metric | macro | micro | answer NLL | items | domains | calls | minutes |"]
    lines.append("|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for experiment in SMALL:
        lines += [_small_row(experiment, one) for one in kept(experiment)]
    yield "\n".join(lines) if len(lines) > 2 else "Not one of them is done yet."


def _small_row(experiment: Experiment, result: KeptResult) -> str:
    one = result.outcome
    scores = [_shown(one.scores[name]) for name in (MACRO, "micro", "answer_nll")]
    domains = sum(1 for domain in one.domains.values() if domain["items"])
    cells: Sequence[object] = (
        experiment.title,
        one.method,
        one.teacher,
        one.metric,
        *scores,
        one.test_items,
        domains,
        one.calls,
        f"{one.minutes:.1f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _note(experiment: Experiment) -> Iterator[str]:
    """Yield what a person wrote about a table."""
    path = NOTES / f"{experiment.name}.md"
    if path.exists():
        yield path.read_text(encoding="utf-8")


def _folder(experiment: Experiment) -> Path:
    folder = PICTURES / experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
