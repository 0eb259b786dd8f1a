"""The grid of a comparison: one run of its own for each method, seed and noise. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from baldistill.errors import InvalidInput
from baldistill.specs.methods import PRESETS, TailFilling
from baldistill.specs.runspec import RunSpec

_SHORT = {name.removesuffix("_ft_cot"): name for name in PRESETS if name.endswith("_ft_cot")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of a comparison. noise: the share of synthesised examples that the oracle gives a wrong answer."""

    method: str
    seed: int
    noise: float = 0.0

    @property
    def row(self) -> str:
        """The row of the table that it belongs to: cells of all seeds together."""
        return f"{self.method} noise {self.noise:g}" if self.noise else self.method

    @property
    def slug(self) -> str:
        """Its name within a comparison."""
        noise = f".n{self.noise:g}" if self.noise else ""
        return f"{self.method}.s{self.seed}{noise}"

    def spec(self, base: RunSpec) -> RunSpec:
        """Return its run: everything as in `base` but name, method, seed and noise. Raises InvalidInput."""
        oracle = base.teacher.oracle.model_copy(update={"label_noise": self.noise})
        changed = {
            "name": f"{base.name}.{self.slug}",
            "method": self.method,
            "seed": self.seed,
            "teacher": base.teacher.model_copy(update={"oracle": oracle}),
        }
        try:
            return RunSpec.model_validate({**{name: getattr(base, name) for name in RunSpec.model_fields}, **changed})
        except ValueError as error:
            raise InvalidInput(f"cell {self.slug}: {error}", field="methods") from None


def cells_of(base: RunSpec, *, methods: Sequence[str], seeds: Sequence[int], noises: Sequence[float]) -> list[Cell]:
    """Return the cells in the order in which they run: all methods of a seed, then the next seed.

    Noise concerns methods that synthesise; others have one cell a seed, without it. Raises InvalidInput.
    """
    names = [full_name(method) for method in methods]
    if not names or not seeds:
        raise InvalidInput("at least one method and one seed are needed", field="methods")
    if any(not 0 <= noise <= 1 for noise in noises):
        raise InvalidInput("a share is from 0 to 1", field="noise")
    if any(noises) and base.teacher.kind != "oracle":
        raise InvalidInput("only the oracle teacher makes label noise: set teacher.kind to oracle", field="noise")
    cells = dict.fromkeys(_grid(names, seeds=seeds, noises=noises))
    for cell in cells:
        cell.spec(base)
    return list(cells)


def full_name(method: str) -> str:
    """Return a preset by its name or its short one: `balance` is `balance_ft_cot`. Raises InvalidInput."""
    name = method if method in PRESETS else _SHORT.get(method, method)
    if name not in PRESETS:
        raise InvalidInput(f"unknown method '{method}'; one of {', '.join([*PRESETS, *_SHORT])}", field="methods")
    return name


def _grid(methods: Iterable[str], *, seeds: Iterable[int], noises: Sequence[float]) -> Iterator[Cell]:
    named = list(methods)
    for seed in seeds:
        for method in named:
            synthesises = PRESETS[method].tail is TailFilling.SYNTHESISE
            for noise in (noises or (0.0,)) if synthesises else (0.0,):
                yield Cell(method=method, seed=seed, noise=noise)
