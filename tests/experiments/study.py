"""What is measured: which methods, seeds, noise and stages, on which data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from baldistill.specs.loading import load_runspec
from baldistill.specs.runspec import RunSpec
from services.cli.comparing.grid import Cell, cells_of
from tests.experiments.kept_results import KeptResult, spec_digest

FOLDER = Path(__file__).parent
SPECS, RESULTS, NOTES = FOLDER / "specs", FOLDER / "results", FOLDER / "notes"

SEEDS = (1, 2, 3)
METHODS = ("random_ft", "duplicate", "balance", "active", "baldistill_n", "baldistill_a")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One table. spec: file in `specs`.   dataset: a name that `preparation` imports.   stages: K, the spec's where None.

    baseline: the row that all are compared with.   also_against: further ones, a table of differences each.
    """

    name: str
    title: str
    spec: str
    dataset: str
    methods: Sequence[str]
    seeds: Sequence[int] = (1,)
    noises: Sequence[float] = (0.0,)
    stages: int | None = None
    baseline: str = ""
    also_against: Sequence[str] = ()

    @property
    def base(self) -> RunSpec:
        """The spec that its cells change."""
        spec = load_runspec(self.spec_path)
        return (
            spec
            if self.stages is None
            else spec.model_copy(update={"stages": self.stages, "name": f"{spec.name}-k{self.stages}"})
        )

    @property
    def spec_path(self) -> Path:
        return SPECS / f"{self.spec}.yaml"

    def cells(self) -> list[Cell]:
        """Return its cells in the order in which they run."""
        return cells_of(self.base, methods=self.methods, seeds=self.seeds, noises=self.noises)

    def result_path(self, cell: Cell) -> Path:
        """Return where a cell's outcome is kept: a file that is committed, so that another machine goes on."""
        return RESULTS / self.name / f"{cell.slug}.json"

    def kept(self, cell: Cell) -> KeptResult | None:
        """Return a cell's result; None where it has none, or one of another spec."""
        path = self.result_path(cell)
        result = KeptResult.read(path) if path.exists() else None
        return result if result and result.spec_sha256 == spec_digest(cell.spec(self.base)) else None


STUDY = Experiment(
    name="trec_lt",
    title="Six methods on a long tail (trec50, K = 3, B = 460)",
    spec="trec_lt",
    dataset="trec_lt",
    methods=METHODS,
    seeds=SEEDS,
    noises=(0.0, 0.2),
    baseline="random_ft",
    # Picked at random in the same domains: what is left is what IFD and invention add to balance.
    also_against=("duplicate_ft_cot", "balance_ft_cot"),
)
STAGES = tuple(
    Experiment(
        name=f"trec_lt_k{stages}",
        title=f"The same with K = {stages}",
        spec="trec_lt",
        dataset="trec_lt",
        methods=("random_ft", "baldistill_a"),
        seeds=SEEDS,
        stages=stages,
        baseline="random_ft",
    )
    for stages in (5, 8)
)
SMALL = tuple(
    Experiment(name=name, title=title, spec=name, dataset=dataset, methods=(method,))
    for name, title, dataset, method in (
        ("r52", "R52: single labels", "r52", "active"),
        ("reuters_pairs", "Reuters-90 as pairs: metric `pair`", "reuters_pairs", "duplicate"),
        ("reuters_documents", "Reuters-90 as documents: metric `set`", "reuters_documents", "duplicate"),
        ("math", "MATH with its human rationales", "math_lt", "baldistill_a"),
        ("mcqa", "Multiple choice, ten tasks", "mcqa", "baldistill_a"),
        ("absqa", "Abstractive QA, five sets", "absqa", "duplicate"),
    )
)
# What takes a minute comes first: a mistake in the data shows early.
EXPERIMENTS = (*SMALL, STUDY, *STAGES)


def experiments(only: Sequence[str] = ()) -> Iterator[Experiment]:
    """Yield the experiments of these names, all where there is none. Raises KeyError for an unknown name."""
    known = {one.name: one for one in EXPERIMENTS}
    yield from (known[name] for name in only) if only else EXPERIMENTS
