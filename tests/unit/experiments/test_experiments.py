"""The study can be run from its files: every spec is sound, every result is kept as numbers, the page says what is done."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import pytest

from baldistill.specs.runspec import RunSpec
from services.cli.comparing.grid import Cell
from services.cli.comparing.outcomes import CellOutcome
from services.cli.comparing.reading import item_outcomes
from tests.experiments import page, study
from tests.experiments.kept_results import KeptResult, spec_digest
from tests.experiments.preparation import MATH_LADDER, TREC_LADDER
from tests.experiments.run import Share, machine
from tests.experiments.study import EXPERIMENTS, SMALL, STAGES, STUDY, Experiment, experiments


def result(experiment: Experiment, cell: Cell, *, right: bool) -> KeptResult:
    spec = cell.spec(experiment.base)
    rows = [
        {"id": f"t{n}", "domain": truth, "truth": truth, "prediction": truth if right else "b", "answer_nll": 1.0}
        for n in range(20)
        for truth in ("a", "b")
    ]
    stored = {"metric": "f1", "domains": {name: {"group": "head"} for name in ("a", "b")}}
    share = 1.0 if right else 1 / 3
    outcome = CellOutcome(
        name=spec.name,
        row=cell.row,
        method=cell.method,
        target="label",
        seed=cell.seed,
        noise=cell.noise,
        teacher="oracle",
        state="completed",
        metric="f1",
        test_items=40,
        scores={"macro": share, "micro": 1.0 if right else 0.5, "tail": None, "answer_nll": 1.0},
        domains={name: {"pool": 5, "items": 20, "score": share, "answer_nll": 1.0} for name in ("a", "b")},
        calls=7 if right else 0,
        trained_rows=10,
        minutes=3.0,
        items=item_outcomes(rows, stored=stored),
        diagnostics={},
    )
    return KeptResult(
        outcome=outcome, dataset="trec_lt@v1", date="2026-11-24", machine="2 cores", spec_sha256=spec_digest(spec)
    )


def test_the_study_is_what_was_asked_for() -> None:
    base = STUDY.base
    assert (base.budget.examples, base.stages, base.selection.candidates_per_pick) == (460, 3, 4)
    assert (base.target and base.target.value, base.teacher.kind, base.synthesis.checks) == ("label", "oracle", "none")
    rows = {cell.row for cell in STUDY.cells()}
    synthesising = {"balance_ft_cot", "baldistill_n", "baldistill_a"}
    assert rows == {"random_ft", "duplicate_ft_cot", "active_ft_cot", *synthesising} | {
        f"{name} noise 0.2" for name in synthesising
    }
    assert {cell.seed for cell in STUDY.cells()} == {1, 2, 3}
    assert [one.base.stages for one in STAGES] == [5, 8]
    assert (TREC_LADDER.test_per_domain, MATH_LADDER.test_per_domain) == (20, 10)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda one: one.name)
def test_every_cell_has_a_sound_spec_and_a_file_of_its_own(experiment: Experiment) -> None:
    cells = experiment.cells()
    specs = [cell.spec(experiment.base) for cell in cells]
    assert all(isinstance(spec, RunSpec) for spec in specs)
    assert len({experiment.result_path(cell) for cell in cells}) == len({spec.name for spec in specs}) == len(cells)


def test_small_runs_stay_small() -> None:
    for experiment in SMALL:
        base = experiment.base
        assert base.budget.examples <= 100
        assert (base.stages, base.evaluation.per_domain, base.evaluation.final) == (2, 10, "per_domain")


def test_unknown_experiments_are_named() -> None:
    assert next(iter(experiments(["math"]))).dataset == "math_lt"
    with pytest.raises(KeyError, match="nonsense"):
        list(experiments(["nonsense"]))


def test_a_result_is_kept_as_numbers_and_read_again(tmp_path: Path) -> None:
    cell = STUDY.cells()[0]
    kept = result(STUDY, cell, right=True)
    path = tmp_path / "deep" / "cell.json"
    kept.write(path)
    assert KeptResult.read(path) == kept
    assert not list(path.parent.glob("*.tmp"))
    items = json.loads(path.read_text())["outcome"]["items"]
    assert all(
        isinstance(one, int | float | list)
        for name in ("domain", "truth", "predicted", "credit")
        for one in items[name]
    )


def test_a_result_of_another_spec_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "RESULTS", tmp_path)
    cell = STUDY.cells()[0]
    kept = result(STUDY, cell, right=True)
    assert STUDY.kept(cell) is None
    kept.write(STUDY.result_path(cell))
    assert STUDY.kept(cell) == kept
    dataclasses.replace(kept, spec_sha256="of another").write(STUDY.result_path(cell))
    assert STUDY.kept(cell) is None


def test_the_page_says_what_is_done_and_what_is_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(page, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(page, "PICTURES", tmp_path / "pictures")
    empty = page.write_page().read_text()
    assert "Not one of its runs is done yet." in empty
    for cell in STUDY.cells():
        if cell.row in {"random_ft", "baldistill_a"}:
            result(STUDY, cell, right=cell.row == "baldistill_a").write(STUDY.result_path(cell))
    text = page.write_page().read_text()
    assert f"| {STUDY.title} | 27 | 6 | 18 | 2 cores | 2026-11-24 |" in text
    assert "| baldistill_a (oracle) | +0.667 [+0.667, +0.667] better |" in text
    assert "| 3 | baldistill_a | 1.000 | +0.667 [+0.667, +0.667] better | 3 |" in text
    assert (tmp_path / "pictures" / "stages.png").exists()
    assert page.write_page().read_text() == text
    assert "Differences to duplicate_ft_cot" not in text
    for cell in STUDY.cells():
        if cell.row == "duplicate_ft_cot":
            result(STUDY, cell, right=True).write(STUDY.result_path(cell))
    further = page.write_page().read_text().split("### Differences to duplicate_ft_cot")[1]
    assert "| random_ft | -0.667 [-0.667, -0.667] worse |" in further.split("###")[0]


def test_the_machine_is_named_by_cores_and_memory() -> None:
    assert machine().endswith("GiB")


def test_shares_are_all_cells_once() -> None:
    cells = STUDY.cells()
    first, second = (Share.parse(text).of(cells) for text in ("1/2", "2/2"))
    assert sorted([*first, *second], key=cells.index) == cells
    assert Share.parse("1/1").of(cells) == cells


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "a/b", "1/2/3"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="1/2"):
        Share.parse(text)
