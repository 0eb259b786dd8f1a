"""Closed runs are deleted whole; what they spent stays spent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from baldistill.database.engine import open_database, sqlite_url
from services.teacher_gateway.composition import run_budgets

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine


@pytest.fixture
def finished(baldistill: CommandLine) -> Any:
    """What a finished run printed: the cheapest that asks the teacher."""
    spec = baldistill.write_spec(method="random_ft_cot")
    ran = baldistill("run", spec, "--json")
    assert ran.code == 0
    return ran.document


def files(baldistill: CommandLine) -> list[Path]:
    folders = ("tenants/default/runs", "deletions")
    return [path for name in folders for path in (baldistill.home / "artifacts" / name).rglob("*") if path.is_file()]


def states(baldistill: CommandLine) -> list[str]:
    return [run["state"] for run in baldistill("runs", "list", "--json").document]


def spent_calls(baldistill: CommandLine, run_id: str) -> list[int]:
    engine = open_database(sqlite_url(baldistill.home / "state.db"))
    tree = run_budgets(engine, tenant="default", run_id=run_id)
    engine.dispose()
    return [one.spent.calls for one in tree]


def test_a_deleted_run_leaves_nothing_but_what_it_spent(baldistill: CommandLine, finished: Any) -> None:
    run_id = finished["run_id"]
    before = spent_calls(baldistill, run_id)
    answer = baldistill("runs", "delete", "small", "--yes", "--json")
    assert (answer.code, answer.document["answers_deleted"]) == (0, before[0])
    assert answer.document["files_deleted"] > 10
    assert (files(baldistill), states(baldistill)) == ([], [])
    assert spent_calls(baldistill, run_id) == before


def test_the_same_spec_cannot_spend_more_than_its_budget_by_being_deleted(
    baldistill: CommandLine, finished: Any
) -> None:
    assert baldistill("runs", "delete", "small", "--yes").code == 0
    again = baldistill("run", baldistill.spec_path, "--json")
    assert again.code == 1
    assert "none of 8 requests of stage 1 was answered (budget_exhausted: 8)" in again.err
    assert spent_calls(baldistill, finished["run_id"])[0] == finished["usage"][0]["spent"]["calls"]
    renamed = baldistill("run", baldistill.write_spec(method="random_ft_cot", name="anew"), "--json")
    assert (renamed.code, renamed.document["state"]) == (0, "completed")


def test_kept_answers_are_not_paid_again(baldistill: CommandLine, finished: Any) -> None:
    assert baldistill("runs", "delete", "small", "--yes", "--keep-answers").code == 0
    after = baldistill("run", baldistill.spec_path, "--json").document
    assert after["usage"] == finished["usage"]
    assert after["stages"][-1]["metrics"] == finished["stages"][-1]["metrics"]


def test_a_run_that_has_not_ended_is_refused_unless_it_is_cancelled(baldistill: CommandLine) -> None:
    spec = baldistill.write_spec(budget={"calls": 3, "on_exhausted": "pause"})
    assert baldistill("run", spec, "--quiet").code == 4
    refused = baldistill("runs", "delete", "small", "--yes")
    assert refused.code == 75
    assert "run small is paused" in refused.err
    assert "--cancel" in refused.err
    assert baldistill("gc", "--older-than", "0d", "--yes").code == 0
    assert states(baldistill) == ["paused"]
    assert baldistill("runs", "delete", "small", "--yes", "--cancel").code == 0
    assert (files(baldistill), states(baldistill)) == ([], [])
