"""Bad input gets one clear line, a code that is not 0, and leaves nothing half-written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine

GOOD = {"id": "1", "domain": "a", "input": "question", "answer": "a"}


def line(**changes: Any) -> str:
    return json.dumps({key: value for key, value in (GOOD | changes).items() if value is not None})


@pytest.mark.parametrize(
    ("lines", "place", "reason"),
    [
        ([line(), '{"id": "2", "domain":'], ":2:", "JSON"),
        ([line(), line(id="2", answer=None)], ":2: field 'answer':", "missing"),
        ([line(), line(id="2", domain="")], ":2: field 'domain':", "empty"),
        ([line(), line(input="another")], ":2: field 'id':", "different content"),
        ([], "", "empty"),
    ],
    ids=["malformed line", "missing field", "empty domain", "same id, other content", "empty pool"],
)
def test_bad_data_is_refused_by_line_and_field(
    baldistill: CommandLine, lines: list[str], place: str, reason: str
) -> None:
    path = baldistill.folder / "bad.jsonl"
    path.write_text("".join(f"{one}\n" for one in lines))
    answer = baldistill("data", "import", "bad", "--train", path)
    assert answer.code == 65
    assert f"bad.jsonl{place}" in answer.err
    assert reason in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert baldistill("data", "list", "--json").document in ([], {})


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"budget": {"examples": 0}}, "budget.examples", "greater than or equal to 1"),
        ({"stages": 17}, "stages", "cannot share a budget of 16"),
        ({"dataset": {"domains": ["billing", "returns"]}}, "dataset.domains", "domain 'returns' has no item"),
        ({"student": {"base": "no/such-model"}}, "student.base", "unknown model"),
        (
            {"teacher": {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}},
            "teacher.price",
            "has no price",
        ),
        ({"teacher": {"knid": "protocol"}}, "teacher.knid", "unknown key"),
    ],
    ids=["B < 1", "K > B", "domain without items", "unknown model", "unpriced teacher", "unknown key"],
)
def test_a_bad_spec_is_refused_by_file_line_and_field(
    baldistill: CommandLine, changes: dict[str, Any], field: str, reason: str
) -> None:
    spec = baldistill.write_spec(**changes)
    for command in ("plan", "run"):
        answer = baldistill(command, spec)
        assert answer.code == 65
        assert f"{spec}:" in answer.err
        assert f"field '{field}'" in answer.err
        assert reason in answer.err
    assert baldistill("runs", "list", "--json").document == []


# Port 9 (discard) of the loopback: nothing listens there.
GONE_TEACHER = {
    "kind": "openai",
    "model": "m",
    "base_url": "http://127.0.0.1:9/v1",
    "price": {"input_usd_per_million_tokens": 1, "output_usd_per_million_tokens": 1},
    "api_key_env": "SOME_KEY",
}


def test_an_unreachable_teacher_is_told_before_a_run_exists(
    baldistill: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "not-a-real-key")
    answer = baldistill("run", baldistill.write_spec(teacher=GONE_TEACHER))
    assert answer.code == 69
    assert "not reachable" in answer.err
    assert baldistill("runs", "list", "--json").document == []


def test_a_missing_key_is_told_by_the_variables_name(baldistill: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    answer = baldistill("run", baldistill.write_spec(teacher=GONE_TEACHER))
    assert answer.code == 65
    assert "SOME_KEY" in answer.err


def test_a_teacher_whose_replies_all_fail_to_parse_fails_the_run(baldistill: CommandLine) -> None:
    spec = baldistill.write_spec(teacher={"protocol": {"unparsable_share": 1.0}})
    answer = baldistill("run", spec, "--json")
    assert answer.code == 1
    assert "unparsable" in answer.err
    assert answer.document["state"] == "failed"
    # They were paid for, and it is said.
    assert answer.document["usage"][0]["spent"]["calls"] > 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["run"], "Missing argument"),
        (["run", "run.yaml", "--colour"], "No such option"),
        (["fly"], "No such command"),
    ],
)
def test_a_wrong_command_points_to_help(baldistill: CommandLine, arguments: list[str], reason: str) -> None:
    from services.cli.__main__ import run

    baldistill.capture()
    assert run(arguments) == 2
    assert reason in baldistill.capture()[1]


def test_a_run_that_does_not_exist_names_those_that_do(baldistill: CommandLine) -> None:
    answer = baldistill("report", "nothing")
    assert answer.code == 65
    assert "known: none" in answer.err


def test_a_home_that_is_a_file_is_told(baldistill: CommandLine) -> None:
    baldistill.home.write_text("not a folder")
    answer = baldistill("runs", "list")
    assert answer.code == 65
    assert "is a file and no folder" in answer.err
