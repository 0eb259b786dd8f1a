"""`baldistill budget` in a home and at a gateway's endpoint: the same words, the same answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.errors import AlreadyThere, BalDistillError, InvalidInput, NotAllowedNow, NotKnown
from baldistill.testing.databases import open_test_database
from baldistill.testing.faces import serving
from services.cli.app import app
from services.teacher_gateway.composition import STATUSES, build_teacher_gateway
from services.teacher_gateway.errors import BudgetMissing

TENANT = "acme"
Budget = Callable[..., Any]


@pytest.fixture(params=["home", "endpoint"])
def budget(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Budget]:
    """Run a command and return its JSON. Raises what it raises."""
    with ExitStack() as stack:
        if request.param == "home":
            place = ["--home", str(tmp_path / "home")]
        else:
            store = LocalArtifactStore(tmp_path / "store")
            engine = open_test_database(kind="sqlite", location=str(tmp_path))
            stack.callback(engine.dispose)
            gateway = build_teacher_gateway(store=store, engine=engine, locks=tmp_path / "locks")
            stack.callback(gateway.close)
            face = stack.enter_context(serving(gateway.service(store=store, teacher=None), statuses=STATUSES))
            monkeypatch.setenv("BALDISTILL_TOKEN", "admin")
            place = ["--endpoint", face.endpoint]

        def run(command: str, *options: str) -> Any:
            whose = [] if command == "reconcile" else ["--tenant", TENANT]
            done = CliRunner().invoke(app, ["budget", command, *whose, "--json", *place, *options])
            if done.exception is not None:
                raise done.exception
            # The gateway is in this process, and logs where the command prints.
            return json.loads("".join(line for line in done.stdout.splitlines() if not line[:4].isdigit()))

        yield run


def test_a_budget_is_made_changed_frozen_and_all_of_it_is_told(budget: Budget) -> None:
    made = budget("create", "--usd", "5", "--calls", "10", "--window", "month")
    assert (made["window"], made["calls"]["ceiling"], made["nano_usd"]["ceiling"]) == ("month", 10, 5_000_000_000)
    changed = budget("set", "--tokens", "700", "--unlimited", "usd")
    assert [changed[unit]["ceiling"] for unit in ("calls", "tokens", "nano_usd")] == [10, 700, None]
    for _ in range(2):
        topped = budget("top-up", "--calls", "5", "--request-id", "once")
    assert (topped["calls"]["ceiling"], topped["calls"]["remaining"]) == (15, 15)
    assert budget("freeze")["state"] == "frozen"
    assert budget("unfreeze")["state"] == "open"
    assert [one["scope"] for one in budget("show")] == ["tenant"]
    actions = [event["action"] for event in budget("history")]
    assert actions == ["unfreeze", "freeze", "top_up", "set_ceilings", "create"]
    assert [event["action"] for event in budget("history", "--limit", "2")] == ["unfreeze", "freeze"]


def test_a_budget_is_made_once_and_not_with_other_ceilings(budget: Budget) -> None:
    budget("create", "--calls", "10")
    assert budget("create", "--calls", "10")["calls"]["ceiling"] == 10
    with pytest.raises(AlreadyThere, match="budget set"):
        budget("create", "--calls", "11")


def test_what_is_wrong_is_told_with_what_to_do(budget: Budget) -> None:
    with pytest.raises(InvalidInput, match="--calls, --tokens, --usd"):
        budget("top-up")
    with pytest.raises(InvalidInput, match="one of calls, tokens, usd"):
        budget("set", "--unlimited", "euros")
    with pytest.raises(InvalidInput, match="name it"):
        budget("show", "--stage", "1")
    with pytest.raises(BalDistillError, match="no budget for tenant 'acme'") as raised:
        budget("freeze")
    # A server says what is missing, and not what its reader may do about it.
    assert isinstance(raised.value, BudgetMissing | NotKnown)


def test_all_budgets_are_frozen_and_opened_on_somebodys_word(budget: Budget) -> None:
    budget("create", "--calls", "10")
    frozen = budget("freeze", "--all", "--reason", "looking at the bill")
    assert (frozen["state"], frozen["reason"]) == ("closed", "looking at the bill")
    with pytest.raises(InvalidInput, match="say why"):
        budget("unfreeze", "--all")
    with pytest.raises(InvalidInput, match="name none"):
        budget("unfreeze", "a-run", "--all", "--reason", "it was right")
    assert budget("unfreeze", "--all", "--reason", "it was right")["state"] == "open"
    assert [event["action"] for event in budget("history", "--limit", "2")] == ["unfreeze_all", "freeze_all"]


def test_the_providers_figures_are_shown_booked_and_open_all_budgets(budget: Budget, tmp_path: Path) -> None:
    budget("create", "--calls", "10", "--usd", "5")
    figures = tmp_path / "bill.csv"
    figures.write_text("tenant,calls,usd\nacme,7,0.0000000005\n")
    shown = budget("reconcile", str(figures), "--dry-run")
    lacking = {"provider": 7, "ledger": 0, "lacking": 7, "booked": 7}
    assert (shown["dry_run"], shown["corrections"][0]["calls"]) == (True, lacking)
    with pytest.raises(NotAllowedNow, match="freeze all of them first"):
        budget("reconcile", str(figures))
    budget("freeze", "--all")
    assert budget("show")[0]["calls"]["spent"] == 0
    assert budget("reconcile", str(figures))["corrections"][0]["calls"] == lacking
    (status,) = budget("show")
    # A nano-USD is not cut: what was billed is rounded up.
    assert [status[unit]["spent"] for unit in ("calls", "tokens", "nano_usd")] == [7, 0, 1]
    assert budget("unfreeze", "--all", "--reason", "it is")["state"] == "open"


def test_a_budget_that_a_bill_closed_is_reopened_once_its_ceiling_is_raised(budget: Budget, tmp_path: Path) -> None:
    budget("create", "--calls", "10")
    figures = tmp_path / "bill.json"
    figures.write_text('[{"tenant": "acme", "calls": 11}]')
    budget("freeze", "--all")
    assert budget("reconcile", str(figures))["corrections"][0]["closes"]
    assert budget("show")[0]["state"] == "closed"
    with pytest.raises(BalDistillError, match="cannot be 10 calls: 11 are spent"):
        budget("reopen")
    budget("set", "--calls", "20")
    assert budget("reopen")["state"] == "open"


def test_figures_of_nobody_change_nothing_and_are_named_by_their_line(budget: Budget, tmp_path: Path) -> None:
    budget("create", "--calls", "10")
    budget("freeze", "--all")
    figures = tmp_path / "bill.csv"
    figures.write_text("tenant,calls\nacme,7\nnobody,1\n")
    with pytest.raises(InvalidInput, match=r"bill.csv:3: field 'tenant': there is no budget for tenant 'nobody'"):
        budget("reconcile", str(figures))
    assert budget("show")[0]["calls"]["spent"] == 0
    assert budget("freeze", "--all")["state"] == "closed"
