"""The ledger's promises under several processes at once, a few examples; `python -m tests.stack.ledger_race` runs more."""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.stack.ledger_race import LedgerRace, LedgerRaceOnPostgres, race_settings


@pytest.mark.parametrize("machine", [LedgerRace, LedgerRaceOnPostgres], ids=["sqlite", "postgres"])
def test_no_promise_breaks_while_processes_race_and_die(machine: type[LedgerRace]) -> None:
    run_state_machine_as_test(machine, settings=race_settings(examples=3, steps=6))
