"""A real Prometheus scrapes a process's page."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baldistill.local_stack.prometheus import Prometheus, make_prometheus
from baldistill.local_stack.server_process import free_port
from baldistill.rpc.listening import ListenFailed
from baldistill.telemetry.metrics import RPC_STARTED
from baldistill.telemetry.metrics_page import MetricsPage
from baldistill.telemetry.process_metrics import ProcessMetrics


@pytest.fixture
def metrics() -> ProcessMetrics:
    return ProcessMetrics(service="policy", version="1.2.3")


@pytest.fixture
def page(metrics: ProcessMetrics) -> Iterator[MetricsPage]:
    page = MetricsPage(metrics, listen="127.0.0.1:0", lacking=dict)
    page.start()
    yield page
    page.close()


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    server = make_prometheus(tmp_path / "prometheus", port=free_port(), scrape_every_s=1)
    server.start(dies_with_parent=True)
    yield server
    server.kill()


def query(server: Prometheus, expression: str) -> list[tuple[dict[str, str], float]]:
    text = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{server.url}/api/v1/query?{text}", timeout=5) as answer:
        results: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return [(result["metric"], float(result["value"][1])) for result in results]


def await_value(server: Prometheus, expression: str, wanted: float) -> dict[str, str]:
    give_up_at = time.monotonic() + 30
    while True:
        for labels, value in query(server, expression):
            if value == wanted:
                return labels
        assert time.monotonic() < give_up_at, query(server, expression)
        time.sleep(0.2)


def test_a_scraped_process_is_found_under_its_job_and_what_it_counts_is_there(
    prometheus: Prometheus, page: MetricsPage, metrics: ProcessMetrics
) -> None:
    prometheus.scrape({"policy": [page.address]})
    assert await_value(prometheus, "up", 1)["job"] == "policy"
    metrics.count(RPC_STARTED, by=3, method="/s/M")
    labels = await_value(prometheus, RPC_STARTED.name, 3)
    assert (labels["method"], labels["instance"]) == ("/s/M", page.address)
    assert await_value(prometheus, "baldistill_process_build_info", 1)["version"] == "1.2.3"
    prometheus.stop()
    prometheus.start(dies_with_parent=True)
    await_value(prometheus, f"max_over_time({RPC_STARTED.name}[1h])", 3)


def test_a_taken_address_of_the_page_is_named(page: MetricsPage, metrics: ProcessMetrics) -> None:
    second = MetricsPage(metrics, listen=page.address, lacking=dict)
    with pytest.raises(ListenFailed, match=rf"cannot listen on {page.address}: .*set server\.metrics_listen"):
        second.start()
    second.close()
