"""`make bench-gateway`: what a call through the gateway costs, beside the LiteLLM proxy.

Side by side in one run, in turns, each side a process of its own, the same fake provider and the same load tool:
1. `direct`: the provider alone.   2. `litellm`: its proxy, one worker, without budgets, database or key (tests/bench/peers/litellm.txt
   pins it), as its documentation has it for production; by uvicorn and by granian, the faster of which counts.
3. `sqlite` and `postgres`: our gateway with the durable ledger (synchronous FULL, fsync on), every call reserved, marked, settled.
Requests a second by 32 clients, and the median latency of one client less the direct one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import migrate
from baldistill.local_stack.postgres import make_postgres
from baldistill.local_stack.server_process import free_port
from baldistill.testing.chat_provider import API_KEY
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import BudgetPath, Ceilings
from tests.bench.gateway_processes import MODEL, GatewayProcess, ProviderProcess, loaded

_TENANT = "acme"
_CLIENTS = 32
_PEER = Path(os.environ.get("BALDISTILL_PEERS", Path.home() / ".cache" / "baldistill" / "peers")) / "litellm"
# What its documentation calls settings for production; the map of prices is otherwise fetched from the net.
_PEER_ENVIRONMENT = {
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    # Without a key it has no token to check: less work than ours.
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}
_SERVERS: Mapping[str, list[str]] = {"uvicorn": [], "granian": ["--run_granian"]}


@contextmanager
def litellm_proxy(folder: Path, provider_url: str, *, server: str) -> Iterator[str]:
    """Run the peer's proxy; yield its base URL."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    model = {
        "model_name": MODEL,
        "litellm_params": {"model": f"openai/{MODEL}", "api_base": provider_url, "api_key": API_KEY},
    }
    settings = {"request_timeout": 600, "set_verbose": False, "num_retries": 0}
    config = folder / "config.yaml"
    # JSON is YAML.
    config.write_text(json.dumps({"model_list": [model], "litellm_settings": settings}))
    command = [str(_PEER / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--num_workers", "1", *_SERVERS[server]],
            stdout=log,
            stderr=log,
            env={**os.environ, **_PEER_ENVIRONMENT},
            start_new_session=True,
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health/liveliness", process, folder / "log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + 180
    while time.monotonic() < give_up_at and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"the peer did not start: {log.read_text()[-2000:]}")


def make_budget(database_url: str) -> None:
    """Make the tenant's budget: a ceiling that every call is checked against and none reaches."""
    engine = open_database(database_url)
    migrate(engine)
    ledger = SqlLedger(engine)
    ceilings = Ceilings(calls=10**9, tokens=10**12, nano_usd=10**15)
    ledger.ensure_budget(BudgetPath(tenant=_TENANT), ceilings=ceilings, actor="bench")
    ledger.close()
    engine.dispose()


def measure(folder: Path, *, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Return medians by side: `per_s` and `p50_ms` of many clients, `one_ms` of one client."""
    with ExitStack() as exit_stack:
        provider = ProviderProcess(folder / "provider", records=False)
        exit_stack.callback(provider.close)
        sides = {"direct": (provider.url, API_KEY)}
        server = _faster_server(folder, provider.url, seconds=seconds)
        peer = exit_stack.enter_context(litellm_proxy(folder / "litellm", provider.url, server=server))
        sides["litellm"] = (peer, "sk-any")
        postgres = make_postgres(folder / "postgres", port=free_port())
        postgres.start(dies_with_parent=True)
        exit_stack.callback(postgres.kill)
        for name, url in (("sqlite", sqlite_url(folder / "ledger.db")), ("postgres", postgres.url)):
            make_budget(url)
            gateway = GatewayProcess(
                folder / name, database_url=url, provider_url=provider.url, locks=folder / f"locks-{name}"
            )
            exit_stack.callback(gateway.close)
            gateway.wait()
            sides[name] = (gateway.url, _TENANT)
        return _in_turns(folder, sides, rounds=rounds, seconds=seconds)


def _faster_server(folder: Path, provider_url: str, *, seconds: float) -> str:
    per_s = {}
    for server in _SERVERS:
        with litellm_proxy(folder / f"litellm-{server}", provider_url, server=server) as url:
            loaded(folder / "load", url, token="sk-any", clients=_CLIENTS, seconds=2)
            measured = loaded(folder / "load", url, token="sk-any", clients=_CLIENTS, seconds=seconds)
        per_s[server] = measured["per_s"]
        print(f"litellm by {server}: {measured['per_s']:.0f} requests/s, {measured['failures']} failures", flush=True)
    return max(per_s, key=lambda server: per_s[server])


def _in_turns(
    folder: Path, sides: Mapping[str, tuple[str, str]], *, rounds: int, seconds: float
) -> dict[str, dict[str, float]]:
    seen: dict[str, dict[str, list[float]]] = {
        side: {"per_s": [], "p50_ms": [], "p99_ms": [], "one_ms": []} for side in sides
    }
    for number in range(-1, rounds):
        for side, (url, token) in sides.items():
            one = loaded(folder / "load", url, token=token, clients=1, seconds=seconds / 2)
            many = loaded(folder / "load", url, token=token, clients=_CLIENTS, seconds=seconds)
            assert not one["failures"] + many["failures"], f"{side}: calls failed"
            if number < 0:
                # The first round warms up.
                continue
            seen[side]["one_ms"].append(one["p50_ms"])
            for name in ("per_s", "p50_ms", "p99_ms"):
                seen[side][name].append(many[name])
            print(f"round {number + 1} {side}: {many['per_s']:.0f}/s, one client {one['p50_ms']:.2f} ms", flush=True)
    return {side: {name: statistics.median(values) for name, values in of.items()} for side, of in seen.items()}


def result_of(medians: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return what the RESULT line says: the worse of our two databases counts."""
    direct, peer = medians["direct"], medians["litellm"]
    ours = {side: medians[side] for side in ("sqlite", "postgres")}
    added = {side: of["one_ms"] - direct["one_ms"] for side, of in medians.items() if side != "direct"}
    return {
        "gateway_rps_ratio": round(min(of["per_s"] for of in ours.values()) / peer["per_s"], 2),
        "gateway_latency_ratio": round(max(added[side] for side in ours) / added["litellm"], 3),
        **{f"{side}_per_s": round(of["per_s"]) for side, of in medians.items()},
        **{f"{side}_added_ms": round(value, 2) for side, value in added.items()},
        "direct_ms": round(direct["one_ms"], 2),
        **{f"{side}_p99_ms": round(medians[side]["p99_ms"], 1) for side in ("litellm", "sqlite", "postgres")},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds; one more warms up")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each load by 32 clients")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as name:
        folder = Path(name)
        # For the user that PostgreSQL runs as.
        folder.chmod(0o755)
        medians = measure(folder, rounds=told.rounds, seconds=told.seconds)
    print("RESULT " + " ".join(f"{name}={value}" for name, value in result_of(medians).items()))


if __name__ == "__main__":
    main()
