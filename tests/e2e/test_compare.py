"""One command compares methods; stopped and started again, it repeats nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine


@pytest.fixture
def oracle_data(baldistill: CommandLine) -> None:
    """The small data set with room for an oracle, under the name that the spec uses."""
    source = baldistill.spec["dataset"]["train"]
    assert baldistill("data", "import", "whole", "--train", baldistill.folder / source).code == 0
    cut = baldistill(
        *("data", "longtail", "whole", "--as", "tail", "--json"),
        *("--test-per-domain", "3", "--head", "8", "--tail", "2", "--min-items", "7"),
    )
    assert cut.code == 0, cut.err
    assert cut.document["oracle_rows"] > 0
    baldistill.spec["dataset"] = {"name": "tail"}
    baldistill.spec["teacher"] = {"kind": "oracle"}
    baldistill.spec["target"] = "label"
    baldistill.spec["budget"] = {"examples": 12}
    baldistill.spec["synthesis"] = {"checks": "none"}


@pytest.mark.usefixtures("oracle_data")
def test_methods_are_compared_and_the_same_command_again_finds_them_done(
    baldistill: CommandLine, tmp_path: Path
) -> None:
    out = tmp_path / "compared"
    command = (
        *("compare", baldistill.write_spec(name="study"), "--methods", "random_ft,duplicate,baldistill_n"),
        *("--seeds", "1,2", "--noise", "0,1", "--out", out, "--json", "--quiet"),
    )
    first = baldistill(*command)
    assert first.code == 0, first.err
    rows = {row["row"]: row for row in first.document["rows"]}
    assert list(rows) == ["random_ft", "duplicate_ft_cot", "baldistill_n", "baldistill_n noise 1"]
    assert all(row["seeds"] == [1, 2] for row in rows.values())
    assert (rows["random_ft"]["calls"], rows["duplicate_ft_cot"]["calls"]) == (0, 0)
    assert rows["baldistill_n"]["calls"] > 0
    assert rows["random_ft"]["differences"] == {}
    assert set(rows["baldistill_n"]["differences"]) >= {"macro", "micro", "answer_nll"}
    stages = first.document["diagnostics"]["study.baldistill_n.s1"]["stages"]
    assert [stage["stage"] for stage in stages] == [2]
    synthesis = first.document["diagnostics"]["study.baldistill_n.s1"]["synthesis"]["all"]
    assert synthesis["synthetic"] == synthesis["checked"] == rows["baldistill_n"]["calls"]
    assert synthesis["wrong"] == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "comparison.json",
        "comparison.md",
        "domains.png",
        "quality-over-spend.png",
    ]
    assert "baldistill_n (oracle)" in (out / "comparison.md").read_text()

    runs = baldistill("runs", "list", "--json").document
    again = baldistill(*command)
    assert again.document == first.document == json.loads((out / "comparison.json").read_text())
    assert baldistill("runs", "list", "--json").document == runs


@pytest.mark.usefixtures("oracle_data")
def test_the_report_of_a_run_says_oracle_and_shows_its_diagnostics(baldistill: CommandLine) -> None:
    spec = baldistill.write_spec(name="alone", method="baldistill_n")
    ran = baldistill("run", spec, "--json")
    assert (ran.document["teacher"], ran.document["quality_claim"]) == ("oracle", False)
    shown = baldistill("report", "alone", "--diagnostics", "--json").document
    assert [stage["stage"] for stage in shown["diagnostics"]["stages"]] == [2]
    told = baldistill("report", "alone", "--diagnostics").out
    assert "What IFD picked" in told
    assert "upper bound" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--methods", "random_ft", "--baseline", "balance"), "is not among --methods"),
        (("--methods", "random_ft,nonsense"), "unknown method 'nonsense'"),
        (("--methods", "random_ft", "--seeds", "one"), "not a list of numbers"),
        (("--methods", "random_ft,balance", "--noise", "0.2"), "only the oracle"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(
    baldistill: CommandLine, options: tuple[str, ...], told: str
) -> None:
    refused = baldistill("compare", baldistill.write_spec(), *options)
    assert refused.code == 65
    assert told in refused.err
    assert baldistill("runs", "list", "--json").document == []
