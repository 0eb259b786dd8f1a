"""One command runs a whole distillation; again, it finds it done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from baldistill.specs.methods import PRESETS

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine


def test_a_plan_promises_what_the_run_then_spends(baldistill: CommandLine) -> None:
    spec = baldistill.write_spec()
    planned = baldistill("plan", spec, "--json").document
    assert [stage["quota"] for stage in planned["stages"]] == [8, 8]
    ran = baldistill("run", spec, "--json")
    assert ran.code == 0
    document = ran.document
    run_budget = next(one for one in document["usage"] if one["scope"] == "run")
    assert (document["state"], run_budget["spent"]["calls"]) == ("completed", planned["calls"])
    assert run_budget["spent"]["tokens"] <= planned["tokens_at_most"]
    assert run_budget["held"] == {"calls": 0, "tokens": 0, "nano_usd": 0}
    assert [stage["stage"] for stage in document["stages"]] == [0, 1, 2]
    assert all(stage["metrics"] is not None for stage in document["stages"])
    assert set(document["references"]) == {"majority", "tfidf_logistic_regression"}
    trained = sum(rows["trained"] for stage in document["stages"] for rows in stage["rows"].values())
    assert trained == 16

    again = baldistill("run", spec, "--json")
    assert (again.code, again.document["usage"]) == (0, document["usage"])


@pytest.mark.parametrize("method", sorted(PRESETS))
def test_every_preset_runs_to_its_end(baldistill: CommandLine, method: str) -> None:
    spec = baldistill.write_spec(method=method, name=method.replace("_", "-"))
    planned = baldistill("plan", spec, "--json").document
    ran = baldistill("run", spec, "--json")
    assert (ran.code, ran.document["state"]) == (0, "completed")
    run_budget = next(one for one in ran.document["usage"] if one["scope"] == "run")
    assert run_budget["spent"]["calls"] == planned["calls"]
    if PRESETS[method].has_stages:
        assert sum(rows["trained"] for stage in ran.document["stages"] for rows in stage["rows"].values()) == 16


def test_a_budget_below_the_plan_ends_early_with_a_student(baldistill: CommandLine) -> None:
    spec = baldistill.write_spec(budget={"calls": 11})
    ran = baldistill("run", spec, "--json")
    assert (ran.code, ran.document["state"]) == (3, "budget_exhausted")
    run_budget = next(one for one in ran.document["usage"] if one["scope"] == "run")
    assert run_budget["spent"]["calls"] == 11
    assert sum(rows["trained"] for stage in ran.document["stages"] for rows in stage["rows"].values()) == 11


def test_a_run_that_pauses_for_money_goes_on_after_a_top_up(baldistill: CommandLine) -> None:
    spec = baldistill.write_spec(budget={"calls": 11, "on_exhausted": "pause"})
    waiting = baldistill("run", spec, "--json")
    assert (waiting.code, waiting.document["state"]) == (4, "paused")
    assert "top-up" in waiting.err
    assert baldistill("budget", "top-up", "small", "--calls", "5").code == 0
    ran = baldistill("run", spec, "--json")
    assert (ran.code, ran.document["state"]) == (0, "completed")
    run_budget = next(one for one in ran.document["usage"] if one["scope"] == "run")
    assert (run_budget["ceiling"]["calls"], run_budget["spent"]["calls"]) == (16, 16)


def test_status_report_and_budget_agree(baldistill: CommandLine, tmp_path: Path) -> None:
    spec = baldistill.write_spec()
    assert baldistill("run", spec, "--quiet").code == 0
    status: dict[str, Any] = baldistill("status", "small", "--json").document
    budget = baldistill("budget", "show", "small", "--json").document
    of_run = next(one for one in budget if one["scope"] == "run")
    assert (status["state"], status["calls_spent"]) == ("completed", of_run["calls"]["spent"])
    markdown = tmp_path / "report.md"
    assert baldistill("report", "small", "--markdown", markdown).code == 0
    text = markdown.read_text()
    assert "# Run small" in text
    assert "| TF-IDF + LR |" in text
    assert "No claim about quality" in text
    shown = baldistill("report", "small").out
    assert "Stage by stage" in shown
    assert "Scores by domain" in shown


def test_a_spec_changed_under_the_same_name_is_refused(baldistill: CommandLine) -> None:
    assert baldistill("run", baldistill.write_spec(), "--quiet").code == 0
    answer = baldistill("run", baldistill.write_spec(seed=2))
    assert answer.code == 65
    assert "seed was 1, now 2" in answer.err
    assert baldistill("runs", "delete", "small", "--yes").code == 0
    assert baldistill("plan", baldistill.write_spec(seed=2)).code == 0
