"""A short chaos in the test suite; `make chaos` is the long one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.stack.chaos import run_chaos


@pytest.mark.timeout(1500)
def test_three_kills_and_an_outage_lose_nothing_and_pay_nothing_twice(
    tmp_path: Path, stack_student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_chaos(
        tmp_path,
        student=stack_student,
        kills=3,
        outages=1,
        seed=7,
        outage_s=(10.0, 15.0),
        patience_s=600.0,
        say=_say,
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{result.line()}\n")
    assert (result.lost_runs, result.different, result.dead_letters) == (0, {}, 0)
    assert (result.audit.unexplained, result.audit.paid_twice, result.audit.overspent) == (0, 0, 0)
    assert result.audit.open_holds == 0
    assert (len(result.chronicle.kills), len(result.chronicle.outages)) == (3, 1)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
