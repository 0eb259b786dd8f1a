"""A short chaos in the test suite; `make chaos` is the long one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.stack.chaos import ChaosPlan, run_chaos
from tests.stack.disturbances import Kind


@pytest.mark.timeout(1500)
def test_kills_an_outage_and_a_standstill_lose_nothing_and_pay_nothing_twice(
    tmp_path: Path, stack_student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ChaosPlan(kills=3, outages=1, standstills=1, seed=7, outage_s=(10.0, 15.0), patience_s=600.0)
    result = run_chaos(tmp_path, plan, student=stack_student, say=_say)
    with capsys.disabled():
        sys.stdout.write(f"\n{result.line()}\n")
    assert (result.lost_runs, result.different, result.dead_letters) == (0, {}, 0)
    assert (result.audit.unexplained, result.audit.paid_twice, result.audit.overspent) == (0, 0, 0)
    assert result.audit.open_holds == 0
    assert [len(result.victims(kind)) for kind in (Kind.KILL, Kind.OUTAGE, Kind.STANDSTILL)] == [3, 1, 1]


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
