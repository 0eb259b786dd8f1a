"""The short form of `make bench-overspend`: four gateways over one PostgreSQL, killed and stopped under hundreds of calls."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.bench_overspend import Storm, weather


def test_no_budget_is_exceeded_and_no_call_lost_or_bought_twice_while_gateways_die() -> None:
    storm = Storm(calls=400, clients=40, over_grpc=4, kill_every_s=3, kills=2, longest_stop_s=2, durable=False)
    with tempfile.TemporaryDirectory(prefix="storm-") as name:
        # For the user that PostgreSQL runs as.
        Path(name).chmod(0o755)
        found, happened = weather(Path(name), storm, seed=1)
    assert (found.overspend_nano_usd, happened["worst_overspend"]) == (0, 0)
    assert (found.leaked_holds, found.paid_twice, found.unexplained_calls) == (0, 0, 0)
    assert happened["kills"] >= storm.kills
    assert found.stored > 0
    # What replicas report together is what the ledger says, whoever of them died.
    assert happened["reported_nano_usd"] == happened["spent_nano_usd"] != 0
