"""`baldistill compare`: methods under one budget and the same seeds, and which differences are real."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from baldistill.errors import InvalidInput
from baldistill.specs.loading import load_runspec
from services.cli.comparing.comparison import Comparison, compare_cells
from services.cli.comparing.grid import cells_of, full_name
from services.cli.comparing.markdown import comparison_markdown
from services.cli.comparing.outcomes import CellOutcome
from services.cli.comparing.plots import draw_comparison
from services.cli.comparing.tables import comparison_tables, diagnostics_tables
from services.cli.comparing.working import CellWork
from services.cli.home import DEFAULT_HOME, Home, HomeOption, JsonOption
from services.cli.output import EXIT_FAILED, MESSAGES, RESULTS, print_json
from services.cli.planning import SpecArgument
from services.cli.reporting.model import NO_QUALITY_CLAIMS
from services.cli.reporting.terminal import print_tables
from services.cli.running import EMBEDDED_PATIENCE_S

Number = TypeVar("Number", int, float)


def compare(
    spec: SpecArgument,
    methods: Annotated[str, typer.Option("--methods", help="Presets, with commas; `balance` is balance_ft_cot.")],
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, with commas; all methods share them.")] = "1,2,3",
    baseline: Annotated[
        str, typer.Option("--baseline", help="The method that others are compared with.")
    ] = "random_ft",
    noise: Annotated[
        str, typer.Option("--noise", help="Label noise of the oracle, with commas, for methods that synthesise.")
    ] = "0",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for comparison.md, comparison.json and the pictures.")
    ] = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw pictures into --out.")] = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the tables at the end.")] = False,
    patience: Annotated[
        float, typer.Option("--patience", min=0, metavar="SECONDS", help="How long the teacher may be away.")
    ] = EMBEDDED_PATIENCE_S,
) -> None:
    """Run a spec under several methods, with the same budget and seeds, and say which differences are real.

    Each cell is a run of its own, named after the spec, the method and the seed: stop the command at any time, run it again, and
    what is finished is not repeated. `better` and `worse` stand only where a 95 % interval excludes 0.

    \b
    Example:
      baldistill compare trec.yaml --methods random_ft,balance,baldistill_a --seeds 1,2,3 --out compared/
    """
    base = load_runspec(spec)
    cells = cells_of(
        base,
        methods=_listed(methods),
        seeds=_numbers(seeds, int, field="seeds"),
        noises=_numbers(noise, float, field="noise"),
    )
    reference = full_name(baseline)
    if reference not in {cell.row for cell in cells}:
        raise InvalidInput(f"'{baseline}' is not among --methods (without noise)", field="baseline")
    outcomes: list[CellOutcome] = []
    missing: dict[str, str] = {}
    with Home(home) as opened:
        work = CellWork(
            base=base,
            home=opened,
            spec_path=spec,
            quiet=quiet,
            patience=timedelta(seconds=patience),
            say=(lambda _line: None) if quiet else (lambda line: MESSAGES.print(line, markup=False, soft_wrap=True)),
        )
        work.check(cells)
        for end in work.ends(cells):
            if end.outcome is not None:
                outcomes.append(end.outcome)
            else:
                missing[end.cell.slug] = end.reason
    comparison = compare_cells(outcomes, name=base.name, baseline=reference, missing=missing)
    if out is not None:
        _keep(comparison, folder=out, plots=plots)
    if as_json:
        print_json(comparison.to_json())
    else:
        _print(comparison)
    if missing:
        raise typer.Exit(EXIT_FAILED)


def _keep(comparison: Comparison, *, folder: Path, plots: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(comparison.to_json(), indent=1) + "\n", encoding="utf-8")
    pictures = draw_comparison(comparison, folder=folder) if plots and comparison.rows else []
    markdown = comparison_markdown(comparison, pictures=[path.name for path in pictures])
    (folder / "comparison.md").write_text(markdown, encoding="utf-8")
    MESSAGES.print(f"Comparison: {folder / 'comparison.md'}", markup=False, soft_wrap=True)


def _print(comparison: Comparison) -> None:
    print_tables([*comparison_tables(comparison), *diagnostics_tables(comparison.diagnostics)])
    if (claim := NO_QUALITY_CLAIMS.get(comparison.teacher)) is not None:
        RESULTS.print(claim, soft_wrap=True)


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _numbers(text: str, kind: type[Number], *, field: str) -> list[Number]:
    try:
        numbers = [kind(part) for part in _listed(text)]
    except ValueError:
        raise InvalidInput(f"'{text}' is not a list of numbers with commas", field=field) from None
    if any(number < 0 for number in numbers):
        raise InvalidInput(f"'{text}' has a number below 0", field=field)
    return list(dict.fromkeys(numbers))
