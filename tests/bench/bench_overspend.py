"""`make bench-overspend`: can budgets be exceeded, or calls be lost or bought twice, by whatever happens to four gateways?

Four gateway processes on one PostgreSQL, 200 clients (most over HTTP, whole and streamed, some over gRPC), budgets that are
topped up by a few calls whenever they are nearly exhausted, SIGKILLs with restarts, SIGSTOPs (some longer than a lease), clients that hang
up, keys that are asked again. The provider writes down each attempt's id as it arrives; after all, by attempt id: stored is a subset
of seen, seen of stored + UNKNOWN.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baldistill.database.engine import open_database
from baldistill.database.migrate import migrate
from baldistill.errors import RetryableError
from baldistill.local_stack.postgres import make_postgres
from baldistill.local_stack.server_process import free_port
from baldistill.tasks.bounds import TOKENS_PER_MESSAGE
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import BudgetPath, Ceilings
from tests.bench.gateway_processes import GatewayProcess, ProviderProcess
from tests.bench.overspend_audit import Audit, audit, overspent
from tests.bench.overspend_clients import MAX_TOKENS, QUESTION, Clients, Tally

_TENANT = "acme"
_GATEWAYS = 4
_RUNS = 20
# The worst case of one call, in nano-USD.
_BOUND = (len(QUESTION) + TOKENS_PER_MESSAGE) * 1000 + MAX_TOKENS * 2000
_LOOK_EVERY_S = 0.25
_CALLS_TOPPED_UP = (4, 24)
# Two leases are 13 s: the longest stop is longer, so that a living owner is taken for a dead one.
_GATEWAY = {"BALDISTILL_LEASE_S": "6.5", "BALDISTILL_TELEMETRY__HANDOVER_S": "1"}
_LONGEST_STOP_S = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """What is to happen. kill_every_s: on average; most kills are followed by a stop of another.   kills: at least so many."""

    calls: int
    clients: int
    over_grpc: int
    kill_every_s: float
    kills: int
    longest_stop_s: float
    durable: bool


class Disturber:
    """Kills and stops gateways, one at a time, until it is told to end."""

    def __init__(self, gateways: Sequence[GatewayProcess], *, storm: Storm, rng: random.Random) -> None:
        self._gateways = gateways
        self._storm = storm
        self._rng = rng
        self._end = threading.Event()
        self.kills = 0
        self.stops = 0
        self._thread = threading.Thread(target=self._run, name="disturber", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """End the disturbances; all gateways serve."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._rng.uniform(0.3, 0.7) * self._storm.kill_every_s):
            gateway = self._rng.choice(self._gateways)
            gateway.process.kill()
            self.kills += 1
            gateway.start()
            if self._rng.random() < 0.7:
                self._stop(self._rng.choice([one for one in self._gateways if one is not gateway]))
            gateway.wait()

    def _stop(self, gateway: GatewayProcess) -> None:
        os.kill(gateway.process.pid, signal.SIGSTOP)
        self._end.wait(self._rng.choice((0.3, 1.0, 3.0, self._storm.longest_stop_s)))
        os.kill(gateway.process.pid, signal.SIGCONT)
        self.stops += 1


class Purse:
    """Keeps budgets near exhaustion, and looks at each moment whether one is exceeded."""

    def __init__(self, ledger: SqlLedger, *, runs: Sequence[str], rng: random.Random) -> None:
        self._ledger = ledger
        self._rng = rng
        self._end = threading.Event()
        self.worst_overspend = 0
        self.looks = 0
        self._thread = threading.Thread(target=self._run, name="purse", daemon=True)
        for run in runs:
            path = BudgetPath(tenant=_TENANT, run_id=run)
            ledger.ensure_budget(path, ceilings=Ceilings(nano_usd=5 * _BOUND), actor="bench")

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(_LOOK_EVERY_S):
            try:
                self._look()
            except RetryableError as error:
                print(f"the purse could not look: {error}", flush=True)

    def _look(self) -> None:
        tree = self._ledger.budget_tree(BudgetPath(tenant=_TENANT))
        self.looks += 1
        self.worst_overspend = max(self.worst_overspend, overspent(tree))
        for status in tree:
            left = status.remaining("nano_usd")
            if left is not None and left < _BOUND and self._rng.random() < 0.7:
                more = self._rng.randint(*_CALLS_TOPPED_UP) * _BOUND
                self._ledger.top_up(status.path, nano_usd=more, actor="bench")


def weather(folder: Path, storm: Storm, *, seed: int) -> tuple[Audit, dict[str, Any]]:
    """Let a storm pass over four gateways; return what the audit says, and what happened."""
    rng = random.Random(seed)
    runs = [f"run-{number}" for number in range(_RUNS)]
    with ExitStack() as exit_stack:
        postgres = make_postgres(folder / "postgres", port=free_port(), durable=storm.durable)
        postgres.start(dies_with_parent=True)
        exit_stack.callback(postgres.kill)
        engine = open_database(postgres.url)
        exit_stack.callback(engine.dispose)
        migrate(engine)
        ledger = SqlLedger(engine)
        exit_stack.callback(ledger.close)
        provider = ProviderProcess(folder / "provider", latency_s=0.03)
        exit_stack.callback(provider.close)
        purse = Purse(ledger, runs=runs, rng=random.Random(seed + 1))
        gateways = [
            GatewayProcess(
                folder / f"gateway-{number}",
                database_url=postgres.url,
                provider_url=provider.url,
                locks=folder / "locks",
                changes=_GATEWAY,
            )
            for number in range(_GATEWAYS)
        ]
        for gateway in gateways:
            exit_stack.callback(gateway.close)
        for gateway in gateways:
            gateway.wait()
        disturber = Disturber(gateways, storm=storm, rng=random.Random(seed + 2))
        tally = Tally(wanted=storm.calls, enough=lambda: disturber.kills >= storm.kills)
        clients = Clients(gateways, tenant=_TENANT, runs=runs, tally=tally, rng=rng)
        began_s = time.monotonic()
        purse.start()
        disturber.start()
        reporter = threading.Thread(target=_report, args=(tally, disturber), daemon=True)
        reporter.start()
        asyncio.run(clients.run(over_http=storm.clients - storm.over_grpc, over_grpc=storm.over_grpc))
        disturber.finish()
        purse.finish()
        minutes = (time.monotonic() - began_s) / 60
        found = audit(engine, ledger, tenant=_TENANT, seen=provider.seen())
        spent = ledger.budget_tree(BudgetPath(tenant=_TENANT))[0].spent.nano_usd
        reported = _reported_nano_usd(gateways, expected=spent)
    happened = {
        "spent_nano_usd": spent,
        "reported_nano_usd": reported,
        "worst_overspend": purse.worst_overspend,
        "calls": tally.calls,
        "kills": disturber.kills,
        "stops": disturber.stops,
        "hang_ups": tally.hang_ups,
        "looks": purse.looks,
        "outcomes": dict(tally.outcomes.most_common()),
        "minutes": round(minutes, 1),
    }
    return found, happened


def _reported_nano_usd(gateways: Sequence[GatewayProcess], *, expected: int) -> int:
    """Return what the gateways' pages say together of the tenant's spend, as Prometheus would sum it up.

    One of them reports; who that is may change, so it is asked until it is what is expected, or for long enough.
    """
    give_up_at = time.monotonic() + 60
    while True:
        total = round(sum(gateway.spent_usd().get((_TENANT, ""), 0.0) for gateway in gateways) * 1e9)
        if total == expected or time.monotonic() > give_up_at:
            return total
        time.sleep(0.5)


def _report(tally: Tally, disturber: Disturber) -> None:
    while not tally.is_over:
        time.sleep(10)
        print(f"{tally.calls} calls, {disturber.kills} kills, {dict(tally.outcomes.most_common())}", flush=True)


def main() -> None:
    """Weather the storm and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=50_000, help="calls that are begun and ended")
    parser.add_argument("--clients", type=int, default=200, help="clients at once")
    parser.add_argument("--kill-every", type=float, default=12.0, help="seconds between two kills, on average")
    parser.add_argument("--seed", type=int, default=1, help="of the disturbances")
    told = parser.parse_args()
    storm = Storm(
        calls=told.calls,
        clients=told.clients,
        over_grpc=told.clients // 20,
        kill_every_s=told.kill_every,
        kills=10,
        longest_stop_s=_LONGEST_STOP_S,
        durable=True,
    )
    with tempfile.TemporaryDirectory(prefix="bench-overspend-") as name:
        folder = Path(name)
        # For the user that PostgreSQL runs as.
        folder.chmod(0o755)
        found, happened = weather(folder, storm, seed=told.seed)
    print(f"outcomes: {happened.pop('outcomes')}")
    overspend = max(found.overspend_nano_usd, happened.pop("worst_overspend"))
    figures = {
        "overspend_nano_usd": overspend,
        "leaked_holds": found.leaked_holds,
        "paid_twice": found.paid_twice,
        "unexplained_calls": found.unexplained_calls,
        **happened,
        "calls_seen": found.seen,
        "calls_stored": found.stored,
        "calls_unknown": found.unknown,
    }
    print("RESULT " + " ".join(f"{name}={value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
