"""What the ledger's benchmark asks of it: reserves at a steady rate on one hot budget, and a ledger that is full already."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, text

from baldistill.database.transactions import writing
from baldistill.tasks.bounds import CallBound
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import BudgetPath
from services.teacher_gateway.ledger.holds import Reserved, ReserveRequest

RUN = BudgetPath(tenant="bench", run_id="hot")
STAGES, DOMAINS = 5, 50
_BOUND = CallBound(calls=1, prompt_tokens=600, completion_tokens=200, nano_usd=1_000_000)
# At most this many rows in one transaction: the server flushes and checks them at once.
_ROWS_AT_ONCE = 100_000

# What a million calls leave: settled holds, each with its reply, spread over all stages and domains.
_FILL_HOLDS = """
INSERT INTO holds (request_key, attempt, prompt_sha256, owner_id, state, outcome, bound_tokens, bound_nano_usd,
    booked_tokens, booked_nano_usd, price_version, tenant_window, run_window, stage_window, domain_window,
    reserved_at_ms, expires_at_ms, deadline_at_ms, sent_at_ms, ended_at_ms, reserve_id, mark_id)
SELECT md5('filled ' || n), 1, md5(n::text), :owner, 'settled', 'answered', 800, 1000000, 300, 400000, 'v',
    (:tenant)::bigint, (:run)::bigint, (:stages)[1 + n % :n_stages], (:domains)[1 + n % :n_domains],
    n, n, n, n, n, md5('reserve ' || n), md5('mark ' || n)
FROM generate_series((:first)::bigint, (:last)::bigint) AS n
"""
_FILL_REPLIES = """
INSERT INTO replies SELECT md5('filled ' || n), 1, md5(n::text), 'm', repeat('because ', 20), 'stop', 200, 100, n
FROM generate_series((:first)::bigint, (:last)::bigint) AS n
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """How long reserves took from the moment at which they were due, in ms."""

    rate_per_s: float
    millis: Sequence[float]

    def percentile_ms(self, percent: int) -> float:
        return statistics.quantiles(self.millis, n=100)[percent - 1]


async def reserve_at_rate(ledger: SqlLedger, *, per_s: int, seconds: float) -> Latencies:
    """Reserve at a fixed rate whether or not earlier ones are done: who is late is measured as late.

    Raises RuntimeError where a reserve is not granted.
    """
    millis: list[float] = []

    async def one(due_s: float, number: int) -> None:
        (outcome,) = await ledger.reserve_async([_request(number)])
        if not (isinstance(outcome, Reserved) and outcome.sent):
            raise RuntimeError(f"refused: {outcome}")
        millis.append((time.perf_counter() - due_s) * 1000)

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(per_s * seconds)):
            due_s = began_s + number / per_s
            if (wait_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            tasks.create_task(one(due_s, number))
    return Latencies(rate_per_s=len(millis) / (time.perf_counter() - began_s), millis=millis)


def fill(engine: Engine, ledger: SqlLedger, *, entries: int) -> None:
    """Make a ledger look as after that many answered calls, counters included. PostgreSQL only."""
    leaves = [
        BudgetPath(tenant="bench", run_id="hot", stage=stage, domain=f"d{domain}")
        for stage in range(1, STAGES + 1)
        for domain in range(DOMAINS)
    ]
    for number, path in enumerate(leaves):
        ledger.reserve([_request(number, path=path)])
    with writing(engine) as connection:
        found = connection.execute(text("SELECT scope, window_id FROM budgets JOIN budget_windows USING (budget_id)"))
        windows: dict[str, list[int]] = {}
        for scope, window_id in found:
            windows.setdefault(scope, []).append(window_id)
    values = {
        "owner": ledger.owner_id,
        "tenant": windows["tenant"][0],
        "run": windows["run"][0],
        "stages": windows["stage"],
        "domains": windows["domain"],
        "n_stages": len(windows["stage"]),
        "n_domains": len(windows["domain"]),
    }
    for first in range(1, entries + 1, _ROWS_AT_ONCE):
        part = {"first": first, "last": min(entries, first + _ROWS_AT_ONCE - 1)}
        with writing(engine) as connection:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text(_FILL_HOLDS), values | part)
            connection.execute(text(_FILL_REPLIES), part)
    with writing(engine) as connection:
        connection.execute(text(_COUNT_FILLED), {"entries": entries})
    # A server in use has done this by itself.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE"))


_COUNT_FILLED = """
UPDATE budget_windows SET spent_calls = spent_calls + (:entries)::bigint, spent_tokens = spent_tokens + 300 * (:entries)::bigint,
    spent_nano_usd = spent_nano_usd + 400000 * (:entries)::bigint
WHERE budget_id IN (SELECT budget_id FROM budgets WHERE scope IN ('tenant', 'run'))
"""


def _request(
    number: int,
    *,
    path: BudgetPath = BudgetPath(tenant="bench", run_id="hot", stage=1, domain="d0"),  # noqa: B008
) -> ReserveRequest:
    return ReserveRequest(
        request_key=f"{uuid.uuid4().hex}-{number}",
        prompt_sha256="p" * 64,
        path=path,
        bound=_BOUND,
        price_version="v",
        send_within_ms=600_000,
        call_timeout_ms=60_000,
        send_at_once=True,
    )
