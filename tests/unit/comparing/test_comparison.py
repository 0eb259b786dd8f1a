"""Rows, verdicts and tables of a comparison."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from baldistill.errors import InvalidInput
from baldistill.seeding import generator
from baldistill.specs.runspec import RunSpec
from services.cli.comparing.comparison import Comparison, compare_cells
from services.cli.comparing.correlation import spearman
from services.cli.comparing.grid import Cell, cells_of
from services.cli.comparing.markdown import comparison_markdown
from services.cli.comparing.outcomes import CellOutcome
from services.cli.comparing.plots import draw_comparison
from services.cli.comparing.reading import item_outcomes
from services.cli.comparing.tables import difference_table, score_table

LABELS = ("a", "b", "c")


def outcome(
    method: str, *, seed: int, right: float, noise: float = 0.0, calls: int = 0, teacher: str = "oracle"
) -> CellOutcome:
    """60 items, 20 a domain, of which about a share is right; answer NLL falls as the share rises."""
    rng = generator("outcome", seed)
    rows = []
    for number in range(60):
        truth = LABELS[number // 20]
        prediction = truth if rng.random() < right else LABELS[(number // 20 + 1) % 3]
        rows.append(
            {"id": f"t{number}", "domain": truth, "truth": truth, "prediction": prediction, "answer_nll": 2 - right}
        )
    stored = {"metric": "f1", "domains": {name: {"group": "tail" if name == "c" else "head"} for name in LABELS}}
    cell = Cell(method=method, seed=seed, noise=noise)
    share = sum(row["truth"] == row["prediction"] for row in rows) / 60
    return CellOutcome(
        name=f"study.{cell.slug}",
        row=cell.row,
        method=method,
        target="label",
        seed=seed,
        noise=noise,
        teacher=teacher,
        state="completed",
        metric="f1",
        test_items=60,
        scores={"macro": share, "micro": share, "tail": None, "answer_nll": 2 - right},
        domains={
            name: {"pool": 100 - 40 * n, "items": 20, "score": share, "answer_nll": 1.0}
            for n, name in enumerate(LABELS)
        },
        calls=calls,
        trained_rows=30,
        minutes=2.5,
        items=item_outcomes(rows, stored=stored),
        diagnostics={},
    )


def comparison(**baseline: Any) -> Comparison:
    cells = [
        *(outcome("random_ft", seed=seed, right=0.4) for seed in (1, 2)),
        *(outcome("baldistill_a", seed=seed, right=0.9, calls=40) for seed in (1, 2)),
        *(outcome("baldistill_a", seed=seed, right=0.4, calls=40, noise=0.2) for seed in (1, 2)),
    ]
    return compare_cells(cells, name="study", baseline=baseline.get("baseline", "random_ft"), resamples=400)


def test_better_and_worse_stand_only_where_zero_is_excluded() -> None:
    rows = {row.row: row for row in comparison().rows}
    assert list(rows) == ["random_ft", "baldistill_a", "baldistill_a noise 0.2"]
    assert rows["random_ft"].differences == {}
    clear = rows["baldistill_a"]
    assert {metric: clear.verdict(metric) for metric in clear.differences} == dict.fromkeys(
        ("macro", "micro", "tail", "answer_nll"), "better"
    )
    assert clear.differences["answer_nll"].estimate == pytest.approx(-0.5)
    same = rows["baldistill_a noise 0.2"]
    assert (same.differences["macro"].low, same.differences["macro"].high, same.verdict("macro")) == (0.0, 0.0, "")


def test_the_other_way_round_it_is_worse() -> None:
    rows = {row.row: row for row in comparison(baseline="baldistill_a").rows}
    assert rows["random_ft"].verdict("macro") == rows["random_ft"].verdict("answer_nll") == "worse"


def test_only_seeds_that_both_have_are_compared_and_missing_cells_are_named() -> None:
    cells = [
        outcome("random_ft", seed=1, right=0.4),
        *(outcome("active_ft_cot", seed=seed, right=0.6) for seed in (1, 2)),
    ]
    found = compare_cells(cells, name="s", baseline="random_ft", missing={"random_ft.s2": "failed: disk"}, resamples=50)
    assert found.rows[1].differences["macro"].seeds == 1
    assert "| random_ft.s2 | failed: disk |" in comparison_markdown(found)


def test_tables_name_the_oracle_and_dash_what_is_not_there() -> None:
    scores = score_table(comparison())
    assert [row[0] for row in scores.rows] == ["random_ft", "baldistill_a (oracle)", "baldistill_a noise 0.2 (oracle)"]
    assert scores.rows[1][3] == "-"
    assert scores.rows[1][5:] == ("40", "30", "2.5", "1 2")
    assert difference_table(comparison()).rows[0][1].endswith("] better")
    text = comparison_markdown(comparison())
    assert "upper bound" in text
    assert text.index("| a | 100 |") < text.index("| b | 60 |") < text.index("| c | 20 |")
    json.dumps(comparison().to_json())


def test_pictures_are_drawn_the_same_again(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    first, second = (draw_comparison(comparison(), folder=folder) for folder in folders)
    assert [path.name for path in first] == ["quality-over-spend.png", "domains.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_without_matplotlib_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InvalidInput, match=r"pip install 'baldistill\[plots\]'"):
        draw_comparison(comparison(), folder=tmp_path)


BASE = RunSpec.model_validate(
    {
        "name": "study",
        "dataset": {"name": "d"},
        "budget": {"examples": 30},
        "teacher": {"kind": "oracle"},
        "target": "label",
    }
)


def test_noise_is_for_methods_that_synthesise_and_cells_are_runs_of_their_own() -> None:
    cells = cells_of(BASE, methods=["random_ft", "balance", "balance_ft_cot"], seeds=[1, 2], noises=[0, 0.2])
    assert [cell.slug for cell in cells] == [
        "random_ft.s1",
        "balance_ft_cot.s1",
        "balance_ft_cot.s1.n0.2",
        "random_ft.s2",
        "balance_ft_cot.s2",
        "balance_ft_cot.s2.n0.2",
    ]
    spec = cells[2].spec(BASE)
    assert (spec.name, spec.method, spec.seed, spec.teacher.oracle.label_noise) == (
        "study.balance_ft_cot.s1.n0.2",
        "balance_ft_cot",
        1,
        0.2,
    )
    assert (
        spec.model_copy(update={"name": BASE.name, "method": BASE.method, "seed": 1, "teacher": BASE.teacher}) == BASE
    )


@pytest.mark.parametrize(
    ("methods", "seeds", "noises", "told"),
    [
        (["nonsense"], [1], [0], "unknown method 'nonsense'"),
        ([], [1], [0], "at least one method"),
        (["random_ft"], [1], [1.5], "from 0 to 1"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(methods: list[str], seeds: list[int], noises: list[float], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        cells_of(BASE, methods=methods, seeds=seeds, noises=noises)


def test_only_the_oracle_makes_noise() -> None:
    spec = BASE.model_copy(update={"teacher": BASE.teacher.model_copy(update={"kind": "protocol"})})
    with pytest.raises(InvalidInput, match="only the oracle"):
        cells_of(spec, methods=["balance"], seeds=[1], noises=[0.2])


def test_a_name_that_grows_too_long_is_refused_before_anything_runs() -> None:
    with pytest.raises(InvalidInput, match="name"):
        cells_of(BASE.model_copy(update={"name": "x" * 60}), methods=["balance"], seeds=[1], noises=[0])


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 4.5, spreads 4.5 and 5.
        ([1, 2, 2, 3], [1, 2, 3, 4], 4.5 / (4.5 * 5) ** 0.5),
        ([1, 1, 1], [1, 2, 3], None),
        ([1, 2], [1, 2], None),
    ],
)
def test_spearman_shares_ranks_of_equal_values(first: list[float], second: list[float], expected: float | None) -> None:
    assert spearman(first, second) == (expected if expected is None else pytest.approx(expected))
