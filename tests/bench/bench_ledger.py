"""`python -m tests.bench.bench_ledger`: reserves at 1,000 a second on one hot budget, on an empty and on a full ledger.

PostgreSQL of its own with fsync on. Open loop: a reserve is due at its time whether or not earlier ones are done, and is
measured from when it was due until it is durable (`send_at_once`: reserved and marked). One process, one event loop, as in the gateway;
generator, ledger and server share the machine. The two ledgers take turns. `budget show` is what the command reads, without Python's start.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from baldistill.database.engine import open_database
from baldistill.database.migrate import migrate
from baldistill.local_stack.postgres import Postgres, make_postgres
from baldistill.local_stack.server_process import free_port
from services.teacher_gateway.adapters.sql_ledger import SqlLedger, read_budget_tree
from services.teacher_gateway.ledger.budgets import BudgetPath, Ceilings
from tests.bench.ledger_load import RUN, Latencies, fill, reserve_at_rate

_SHOWS = 20


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1000, help="reserves a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn")
    parser.add_argument("--turns", type=int, default=3, help="of each ledger")
    parser.add_argument("--entries", type=int, default=1_000_000, help="in the full ledger")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds that are not counted")
    asked = parser.parse_args(arguments)
    with ExitStack() as stack:
        server = _server(stack)
        empty, full = (_ledger(stack, server, name) for name in ("empty", "full"))
        began_s = time.perf_counter()
        fill(full._engine, full, entries=asked.entries)
        print(f"filled with {asked.entries:,} entries in {time.perf_counter() - began_s:.0f} s", flush=True)
        taken: dict[str, list[Latencies]] = {"empty": [], "full": []}
        for turn in range(asked.turns):
            for name, ledger in (("empty", empty), ("full", full)):
                asyncio.run(reserve_at_rate(ledger, per_s=asked.rate, seconds=asked.warm_up))
                measured = asyncio.run(reserve_at_rate(ledger, per_s=asked.rate, seconds=asked.seconds))
                taken[name].append(measured)
                print(
                    f"turn {turn + 1} {name:>5}: {measured.rate_per_s:.0f}/s  p50 {measured.percentile_ms(50):.1f} ms"
                    f"  p99 {measured.percentile_ms(99):.1f} ms",
                    flush=True,
                )
        shown_ms = _show_ms(full)
    print(
        "RESULT "
        + " ".join(
            [f"reserve_rps={statistics.median(one.rate_per_s for one in taken['empty']):.0f}"]
            + [
                f"{name}_p{percent}_ms={statistics.median(one.percentile_ms(percent) for one in taken[name]):.1f}"
                for name in taken
                for percent in (50, 99)
            ]
            + [f"entries={asked.entries} budget_show_ms={shown_ms:.1f}"]
        )
    )


def _server(stack: ExitStack) -> Postgres:
    folder = Path(tempfile.mkdtemp(prefix="baldistill-bench-ledger-"))
    # For the user that the server runs as.
    folder.chmod(0o755)
    server = make_postgres(folder, port=free_port(), durable=True)
    stack.callback(server.delete)
    server.start(dies_with_parent=True)
    return server


def _ledger(stack: ExitStack, server: Postgres, name: str) -> SqlLedger:
    engine = open_database(server.create_database(name))
    stack.callback(engine.dispose)
    migrate(engine)
    ledger = SqlLedger(engine)
    stack.callback(ledger.close)
    ledger.ensure_budget(BudgetPath(tenant="bench"), ceilings=Ceilings(calls=10**9), actor="bench")
    ledger.ensure_budget(RUN, ceilings=Ceilings(calls=10**9, tokens=10**13, nano_usd=10**17), actor="bench")
    return ledger


def _show_ms(ledger: SqlLedger) -> float:
    taken = []
    for _ in range(_SHOWS):
        began_s = time.perf_counter()
        tree = read_budget_tree(ledger._engine, RUN)
        taken.append((time.perf_counter() - began_s) * 1000)
        if not tree:
            sys.exit("nothing to show")
    return statistics.median(taken)


if __name__ == "__main__":
    main()
