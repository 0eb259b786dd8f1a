"""Runs what is missing of the study and writes docs/results.md. Stop it at any time: the same command goes on.

python -m tests.experiments.run --data ../shared/data --home .baldistill/experiments [--only trec_lt] [--cells 2]

Each run takes one core. Two at once on two cores, each with a home of its own: --share 1/2 --home A, and --share 2/2 --home B.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from baldistill.datasets.storage import latest_version
from baldistill.errors import BalDistillError
from baldistill.runtime.thread_waits import with_short_waits
from services.cli.comparing.grid import Cell
from services.cli.comparing.working import CellWork
from services.cli.home import Home
from tests.experiments.kept_results import KeptResult, spec_digest
from tests.experiments.page import write_page
from tests.experiments.preparation import TENANT, prepare
from tests.experiments.study import Experiment, experiments

_PATIENCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Share:
    """Which cells this process runs: every `of_all`-th one from the `number`-th (counted from 1)."""

    number: int
    of_all: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read "1/2". Raises ArgumentTypeError, which argparse shows."""
        number, slash, of_all = text.partition("/")
        if not (slash and number.isdecimal() and of_all.isdecimal() and 1 <= int(number) <= int(of_all)):
            raise argparse.ArgumentTypeError(f"'{text}' is no share; write the first of two as 1/2")
        return cls(int(number), int(of_all))

    def of(self, cells: Sequence[Cell]) -> Sequence[Cell]:
        """Return this share of the cells, in their order."""
        return cells[self.number - 1 :: self.of_all]


def main() -> int:
    """Run the missing cells; return how the process ends."""
    # As the command line does, before torch is imported.
    os.environ.update(with_short_waits(os.environ))
    arguments = _arguments()
    left = arguments.cells
    failed: list[str] = []
    try:
        with Home(arguments.home) as home:
            for experiment in experiments(arguments.only):
                if left == 0:
                    break
                done, lost = run_experiment(
                    experiment, home=home, data=arguments.data, share=arguments.share, at_most=left
                )
                failed += lost
                left = None if left is None else left - done
    except BalDistillError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        print(f"Page: {write_page()}", file=sys.stderr)
    return 1 if failed else 0


def run_experiment(
    experiment: Experiment, *, home: Home, data: Path, share: Share, at_most: int | None
) -> tuple[int, list[str]]:
    """Run at most so many of a share's missing cells. Return how many were run, and which have no result."""
    missing = [cell for cell in share.of(experiment.cells()) if experiment.kept(cell) is None][:at_most]
    if not missing:
        return 0, []
    say(f"{experiment.name}: {len(missing)} cells to run")
    prepare(experiment.dataset, store=home.store, data=data)
    work = CellWork(
        base=experiment.base, home=home, spec_path=experiment.spec_path, quiet=False, patience=_PATIENCE, say=say
    )
    work.check(missing)
    lost = []
    for end in work.ends(missing):
        if end.outcome is None:
            say(f"{experiment.name}: {end.cell.slug} has no result: {end.reason}")
            lost.append(end.cell.slug)
            continue
        version = latest_version(home.store, tenant=TENANT, name=experiment.dataset)
        KeptResult(
            outcome=end.outcome,
            dataset=f"{experiment.dataset}@{version}",
            date=datetime.now(UTC).date().isoformat(),
            machine=machine(),
            spec_sha256=spec_digest(end.cell.spec(experiment.base)),
        ).write(experiment.result_path(end.cell))
    return len(missing), lost


def machine() -> str:
    """Return what a reader needs to judge minutes: cores, memory, processor."""
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores of {model}, {round(int(memory) / 2**20)} GiB"


def say(line: str) -> None:
    """Tell a person on standard error."""
    print(line, file=sys.stderr, flush=True)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the real data")
    parser.add_argument("--home", type=Path, default=Path(".baldistill/experiments"), help="where runs are kept")
    parser.add_argument("--only", action="append", default=[], help="name of an experiment; may be repeated")
    parser.add_argument("--share", type=Share.parse, default=Share(1, 1), help="the share of this process, e.g. 1/2")
    parser.add_argument("--cells", type=int, default=None, help="run at most so many")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
