"""Two gateways on one database, scraped by a real Prometheus: their sum is what `budget show` says."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from typer.testing import CliRunner

from baldistill.local_stack.prometheus import Prometheus, make_prometheus
from baldistill.local_stack.server_process import free_port
from baldistill.testing.databases import new_location, open_test_database
from services.cli.app import app
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import BudgetPath, Ceilings
from tests.bench.gateway_processes import MODEL, GatewayProcess, ProviderProcess

TENANT = "acme"
CALLS = 20
UNITS = {"calls": 1, "tokens": 1, "usd": 10**-9}
LONGEST_S = 60.0
LOOKS = 5


@pytest.fixture
def gateways(tmp_path: Path) -> Iterator[list[GatewayProcess]]:
    with ExitStack() as stack:
        provider = ProviderProcess(tmp_path / "provider")
        stack.callback(provider.close)
        url = stack.enter_context(new_location("postgres", tmp_path))
        engine = open_test_database(kind="postgres", location=url)
        stack.callback(engine.dispose)
        ledger = SqlLedger(engine)
        ledger.ensure_budget(BudgetPath(tenant=TENANT), ceilings=Ceilings(calls=1000), actor="test")
        ledger.close()
        both = [
            GatewayProcess(
                tmp_path / name,
                database_url=url,
                provider_url=provider.url,
                locks=tmp_path / "locks",
                changes={"BALDISTILL_TELEMETRY__HANDOVER_S": "1"},
            )
            for name in ("a", "b")
        ]
        for one in both:
            stack.callback(one.close)
        for one in both:
            one.wait()
        yield both


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    server = make_prometheus(tmp_path / "prometheus", port=free_port(), scrape_every_s=1)
    server.start(dies_with_parent=True)
    yield server
    server.kill()


def spend(gateway: GatewayProcess) -> None:
    with OpenAI(base_url=gateway.url, api_key=TENANT, max_retries=0) as client:
        for _ in range(CALLS):
            client.chat.completions.create(
                model=MODEL, max_completion_tokens=64, messages=[{"role": "user", "content": "Which label?"}]
            )


def sums(server: Prometheus) -> dict[str, float]:
    """Ask for the sum over all replicas, as a dashboard does."""
    found = {}
    for unit in UNITS:
        expression = f'sum(baldistill_teacher_gateway_budget_spent_{unit}{{tenant="{TENANT}",run=""}})'
        text = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{server.url}/api/v1/query?{text}", timeout=5) as answer:
            results = json.load(answer)["data"]["result"]
        # Nothing where no replica tells it at this moment.
        if results:
            found[unit] = float(results[0]["value"][1])
    return found


def shown(gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("BALDISTILL_TOKEN", TENANT)
    command = ["budget", "show", "--json", "--tenant", TENANT, "--endpoint", gateway.rpc]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    (budget,) = json.loads(done.stdout)
    return {"calls": budget["calls"]["spent"], "tokens": budget["tokens"]["spent"], "usd": budget["nano_usd"]["spent"]}


def test_the_sum_of_what_two_replicas_tell_is_what_the_ledger_says(
    gateways: list[GatewayProcess], prometheus: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    prometheus.scrape({"teacher-gateway": [one.metrics for one in gateways]})
    with ThreadPoolExecutor(max_workers=2) as threads:
        list(threads.map(spend, gateways))
    told = shown(gateways[0], monkeypatch)
    assert told["calls"] == 2 * CALLS
    wanted = {unit: pytest.approx(told[unit] * factor) for unit, factor in UNITS.items()}
    give_up_at, in_a_row = time.monotonic() + LONGEST_S, 0
    # Which of them tells it may change; of a sum of both there would be no end.
    while in_a_row < LOOKS:
        assert time.monotonic() < give_up_at, (sums(prometheus), told)
        time.sleep(0.5)
        in_a_row = in_a_row + 1 if sums(prometheus) == wanted else 0
