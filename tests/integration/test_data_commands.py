"""`baldistill data` as a person uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from baldistill.errors import InvalidInput
from services.cli.data import data_app


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def train(tmp_path: Path) -> Path:
    sizes = {"billing": 100, "login": 20, "export": 2}
    rows = [
        {"key": f"{domain}-{number}", "text": f"{domain} {number}", "label": domain}
        for domain, size in sizes.items()
        for number in range(size)
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    return path


MAPPED = ["--map", "id=key,input=text", "--map", "domain=label,answer=label"]


def call(*arguments: str | Path, home: Path) -> str:
    result = CliRunner().invoke(data_app, [*map(str, arguments), "--home", str(home)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def call_json(*arguments: str | Path, home: Path) -> Any:
    return json.loads(call(*arguments, "--json", home=home))


def test_what_is_imported_is_shown_and_listed(home: Path, train: Path) -> None:
    imported = call_json("import", "tickets", "--train", train, *MAPPED, home=home)
    assert (imported["created"], imported["pool_rows"], imported["test_rows"]) == (True, 98, 24)
    assert imported["removed"] == {"duplicate": 1, "in_test": 0}
    shown = call_json("show", "tickets", home=home)
    assert shown["domains"]["login"] == {
        "pool": 16, "test": 4, "longest_input_bytes": 8, "longest_answer_bytes": 5,
    }  # fmt: skip
    assert shown["head_to_tail"] == 40.0
    assert [listed["version"] for listed in call_json("list", home=home)] == [imported["version"]]


def test_importing_again_says_that_nothing_changed(home: Path, train: Path) -> None:
    arguments: list[str | Path] = ["import", "tickets", "--train", train, *MAPPED]
    assert "imported." in call(*arguments, home=home)
    assert "nothing changed." in call(*arguments, home=home)
    assert "imported." in call(*arguments, "--seed", "2", home=home)
    assert len(call_json("show", "tickets", home=home)["versions"]) == 2
    assert "now the newest." in call(*arguments, home=home)


def test_the_long_tail_is_drawn_from_the_largest_to_the_smallest(home: Path, train: Path) -> None:
    call("import", "tickets", "--train", train, *MAPPED, home=home)
    drawn = call("show", "tickets", home=home)
    assert drawn.index("billing") < drawn.index("login") < drawn.index("export")
    lengths = [line.count("█") for line in drawn.splitlines() if "│ " in line][:2]
    assert lengths[0] == pytest.approx(5 * lengths[1], abs=5)
    assert "head : tail = 40 : 1" in drawn
    assert "1 duplicate" in drawn


def test_many_domains_are_cut_in_the_middle_unless_all_are_asked_for(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    rows = "".join(f"{number},d{number:03d},question {number},yes\n" for number in range(60))
    path.write_text("id,domain,input,answer\n" + rows)
    call("import", "many", "--train", path, home=home)
    assert "... 10 more (--all)" in call("show", "many", home=home)
    assert "d035" not in call("show", "many", home=home)
    assert "d035" in call("show", "many", "--all", home=home)


def test_mistakes_are_one_line(home: Path, train: Path) -> None:
    with pytest.raises(InvalidInput, match="field 'id': missing, found key, text, label"):
        call("import", "tickets", "--train", train, home=home)
    with pytest.raises(InvalidInput, match="no data set 'tickets' in tenant 'default'; none was imported yet"):
        call("show", "tickets", home=home)
    with pytest.raises(InvalidInput, match="'half' is not a number"):
        call("import", "tickets", "--train", train, "--held-out-share", "half", home=home)
    with pytest.raises(InvalidInput, match="nothing is held out where a test file is given"):
        call("import", "t", "--train", train, "--test", train, "--held-out-share", "0.1", home=home)
    assert "No data sets" in call("list", home=home)


def test_help_teaches_by_example(home: Path) -> None:
    for command in ("import", "show", "list"):
        shown = CliRunner().invoke(data_app, [command, "--help"]).stdout
        assert f"baldistill data {command}" in shown
