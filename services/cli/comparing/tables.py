"""A comparison as tables: terminal and Markdown draw the same ones. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from services.cli.comparing.bootstrap import Difference
from services.cli.comparing.comparison import ComparedMethod, Comparison
from services.cli.comparing.ratios import ANSWER_NLL, MACRO, METRICS, MICRO, TAIL
from services.cli.output import score
from services.cli.reporting.tables import ReportTable

_HEADINGS = {MACRO: "macro", MICRO: "micro", TAIL: "tail", ANSWER_NLL: "answer NLL"}


def comparison_tables(comparison: Comparison) -> list[ReportTable]:
    """Return the tables that have rows."""
    tables = [
        score_table(comparison),
        difference_table(comparison),
        domain_table(comparison),
        missing_table(comparison),
    ]
    return [table for table in tables if table.rows]


def score_table(comparison: Comparison) -> ReportTable:
    """One row a method: means over its seeds."""
    return ReportTable(
        title=f"Scores ({comparison.metric}, {comparison.test_items} test items)",
        headings=("method", *(_HEADINGS[metric] for metric in METRICS), "calls", "rows", "minutes", "seeds"),
        rows=tuple(
            (
                _named(row, comparison),
                *(score(row.scores[metric]) for metric in METRICS),
                f"{row.calls:g}" if row.calls == int(row.calls) else f"{row.calls:.1f}",
                f"{row.trained_rows:.0f}",
                f"{row.minutes:.1f}",
                " ".join(str(seed) for seed in row.seeds),
            )
            for row in comparison.rows
        ),
        caption=(
            f"Teacher: {comparison.teacher}. Means over seeds. rows: trained on. answer NLL: of the true answer, nats per token."
            " tail: macro over domains with n_d < B / l. -: fewer than 30 items, or not measured."
        ),
    )


def difference_table(comparison: Comparison) -> ReportTable:
    """One row a method: its difference to the baseline and what can be said of it."""
    return ReportTable(
        title=f"Differences to {comparison.baseline}, with 95 % intervals",
        headings=("method", *(_HEADINGS[metric] for metric in METRICS)),
        rows=tuple(
            (_named(row, comparison), *(_difference(row, metric) for metric in METRICS))
            for row in comparison.rows
            if row.differences
        ),
        caption=(
            f"Paired bootstrap over seeds and items within domains, {comparison.resamples} resamples. `better` and `worse`"
            " stand only where the interval excludes 0; of answer NLL less is better. Nothing is corrected for the number of"
            " comparisons in this table. With one seed the interval knows nothing of what another seed would give."
        ),
    )


def domain_table(comparison: Comparison) -> ReportTable:
    """One row a domain, largest pool first: its score by method."""
    return ReportTable(
        title="Scores by domain",
        headings=("domain", "pool", *(_named(row, comparison) for row in comparison.rows)),
        rows=tuple(
            (name, str(pool), *(score(row.domains.get(name)) for row in comparison.rows))
            for name, pool in comparison.pool.items()
        ),
    )


def missing_table(comparison: Comparison) -> ReportTable:
    """Return the cells that have no result."""
    return ReportTable(
        title="Without a result", headings=("cell", "why"), rows=tuple(sorted(comparison.missing.items()))
    )


def diagnostics_tables(diagnostics: Mapping[str, Mapping[str, Any]]) -> Iterator[ReportTable]:
    """Yield what the runs' scores and inventions say, by run; nothing where no run has any."""
    scored = tuple(
        (
            name,
            str(stage["stage"]),
            str(stage["candidates"]),
            _signed(stage["spearman_ifd_minus_nll_y"]),
            _signed(stage["spearman_ifd_nll_y_given_x"]),
            # Results that were kept before it was measured have none.
            _percent(stage.get("explained_by_answer")),
            _percent(stage["flagged_candidates"]),
            _percent(stage["flagged_picked"]),
            _percent(stage["overlap_with_random"]),
            _percent(stage["by_chance"]),
        )
        for name, found in diagnostics.items()
        for stage in found["stages"]
    )
    if scored:
        yield ReportTable(
            title="What IFD picked",
            headings=(
                "run",
                "stage",
                "scored",
                "~ -NLL(y)",
                "~ NLL(y|x)",
                "by y alone",
                "flagged",
                "of picked",
                "as random",
                "by chance",
            ),
            rows=scored,
            caption=(
                "~: Spearman's correlation of IFD with it, over the scored candidates. by y alone: share of the variance of log IFD within"
                " domains that the answer's text decides, whatever the input. flagged: y at the length limit or looping."
                " as random: share of the picks that a random pick from the same candidates makes too; by chance: its mean."
            ),
        )
    invented = tuple(
        (name, str(all_["rows"]), str(all_["synthetic"]), str(all_["wrong"]), str(all_["checked"]))
        for name, found in diagnostics.items()
        if (all_ := found["synthesis"]["all"])["synthetic"]
    )
    if invented:
        yield ReportTable(
            title="What was synthesised",
            headings=("run", "rows", "synthetic", "wrong", "of known"),
            rows=invented,
            caption="wrong: rows whose answer is not the true one, of those whose true answer is known.",
        )


def _named(row: ComparedMethod, comparison: Comparison) -> str:
    """A method that called the oracle is named with it: the row is an upper bound."""
    return f"{row.row} (oracle)" if comparison.teacher == "oracle" and row.calls else row.row


def _difference(row: ComparedMethod, metric: str) -> str:
    difference = row.differences.get(metric)
    if difference is None:
        return "-"
    verdict = row.verdict(metric)
    return f"{_interval(difference)}{' ' + verdict if verdict else ''}"


def _interval(difference: Difference) -> str:
    return f"{difference.estimate:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
