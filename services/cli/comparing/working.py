"""Works through the cells of a comparison, one run each; what is finished is found, not repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from baldistill.errors import InvalidInput
from baldistill.events.facts import RunState
from baldistill.specs.frozen import load_frozen_run
from baldistill.specs.runspec import RunSpec
from services.cli.comparing.grid import Cell
from services.cli.comparing.outcomes import CellOutcome
from services.cli.comparing.reading import read_cell
from services.cli.home import Home
from services.cli.proposals import propose_from
from services.cli.reporting.builder import build_report
from services.cli.running import work_on_run

_WITH_RESULT = frozenset({RunState.COMPLETED, RunState.BUDGET_EXHAUSTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class CellEnd:
    """How a cell ended. outcome: None where its run has none, then `reason` says why."""

    cell: Cell
    outcome: CellOutcome | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellWork:
    """Where and how cells are worked on. clock: seconds, for the time that is left."""

    base: RunSpec
    home: Home
    spec_path: Path
    quiet: bool
    patience: timedelta
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic

    def check(self, cells: Sequence[Cell]) -> None:
        """Raise InvalidInput where any cell could not be submitted, before the first one is."""
        for cell in cells:
            propose_from(cell.spec(self.base), home=self.home, spec_path=self.spec_path)

    def ends(self, cells: Sequence[Cell]) -> Iterator[CellEnd]:
        """Work on the cells in their order and yield each one's end.

        A run that failed is a cell without a result. What is about this machine (a lock, a full disk, a teacher that is
        away) is raised; the same command again goes on.
        """
        worked: list[float] = []
        for number, cell in enumerate(cells, start=1):
            self.say(f"cell {number} of {len(cells)}: {cell.slug}{_left(worked, len(cells) - number + 1)}")
            begun = self.clock()
            end = self._end(cell)
            took = self.clock() - begun
            # What was finished before says nothing about how long a run takes.
            if end.outcome is None or took > end.outcome.minutes * 30:
                worked.append(took)
            yield end

    def _end(self, cell: Cell) -> CellEnd:
        proposal = propose_from(cell.spec(self.base), home=self.home, spec_path=self.spec_path)
        record = work_on_run(
            proposal, home=self.home, spec_path=self.spec_path, quiet=self.quiet, patience=self.patience
        )
        if record.state not in _WITH_RESULT:
            return CellEnd(
                cell=cell, outcome=None, reason=f"{record.state.value}: {record.reason or 'no reason given'}"
            )
        frozen = load_frozen_run(self.home.store, record.spec)
        report = build_report(record, home=self.home)
        try:
            outcome = read_cell(cell, name=record.name, frozen=frozen, report=report, store=self.home.store)
        except InvalidInput as error:
            return CellEnd(cell=cell, outcome=None, reason=error.reason)
        return CellEnd(cell=cell, outcome=outcome)


def _left(worked: Sequence[float], cells: int) -> str:
    if not worked:
        return ""
    return f" (about {sum(worked) / len(worked) * cells / 60:.0f} min left)"
