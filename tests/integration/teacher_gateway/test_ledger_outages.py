"""The ledger's PostgreSQL goes away: calls are refused, none passes unmetered, and when it is back work goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from baldistill.local_stack.postgres import Postgres
from tests.stack.ledger_outages import KINDS, go_through_outage, new_server


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with ExitStack() as stack:
        yield new_server(stack)


@pytest.mark.parametrize("kind", KINDS)
def test_no_call_is_lost_unmetered_or_bought_again(server: Postgres, kind: str) -> None:
    report = go_through_outage(kind, pause_s=1.0, server=server)
    assert report.answered_before >= 20
    assert report.answered_after >= 20
    assert (report.unexplained, report.paid_twice, report.held, report.seen_meanwhile) == (0, 0, 0, 0)
    assert kind == "cut" or report.refused >= 4
