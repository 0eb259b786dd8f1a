"""Gateways, their fake provider and a load tool as processes, for the gateway's benches and their short tests."""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from baldistill.testing.chat_provider import API_KEY
from baldistill.testing.processes import ModuleProcess

MODEL = "gpt-fake"
# Nano-USD a token: 1,000 in, 2,000 out.
PRICE = {"input_usd_per_million_tokens": 1, "output_usd_per_million_tokens": 2}
_PATHS = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class ProviderProcess:
    """The fake provider. url: ends with /v1."""

    def __init__(self, folder: Path, *, latency_s: float = 0.0, records: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._seen = folder / "seen"
        self._seen.touch()
        arguments = ["--latency", str(latency_s), *(["--seen", str(self._seen)] if records else [])]
        self.process = ModuleProcess("baldistill.testing.chat_provider", *arguments, folder=folder, environment=_PATHS)
        self.process.wait_until(lambda: self.process.out.endswith("/v1\n"))
        self.url = self.process.out.removeprefix("listening on ").strip()

    def seen(self) -> list[str]:
        """Return the X-Request-Id of every request so far, in the order of arrival."""
        return self._seen.read_text().splitlines()

    def close(self) -> None:
        self.process.kill()


class GatewayProcess:
    """One gateway (gateway_alone.py) that can be killed and started again under its addresses."""

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str,
        provider_url: str,
        locks: Path,
        changes: Mapping[str, str] | None = None,
    ) -> None:
        """changes: further environment variables."""
        teacher = {"kind": "openai", "model": MODEL, "base_url": provider_url, "price": PRICE, "timeout_s": 20.0}
        self._folder = folder
        self._environment = {
            "BALDISTILL_DATABASE__URL": database_url,
            "BALDISTILL_TEACHER": json.dumps(teacher),
            "BALDISTILL_HTTP__LISTEN": "127.0.0.1:0",
            "BALDISTILL_LOCKS": str(locks),
            "BALDISTILL_ARTIFACTS_FOLDER": str(folder / "artifacts"),
            "BALDISTILL_CALLS_AT_ONCE": "128",
            "OPENAI_API_KEY": API_KEY,
            **_PATHS,
            **(changes or {}),
        }
        self._starts = 0
        self.start()

    def start(self) -> None:
        """Start it; it serves once `wait` returns."""
        self._starts += 1
        self._log = self._folder / f"start-{self._starts}"
        self.process = ModuleProcess("tests.bench.gateway_alone", folder=self._log, environment=self._environment)

    def wait(self) -> None:
        """Wait until it serves; from then on it is started again under the same addresses."""
        self.process.wait_until(lambda: '"event": "serves"' in (self._log / "stderr").read_text())
        line = next(one for one in (self._log / "stderr").read_text().splitlines() if '"event": "serves"' in one)
        said = json.loads(line)
        self.http, self.rpc, self.metrics = said["http"], said["rpc"], said["metrics"]
        self._environment |= {
            "BALDISTILL_HTTP__LISTEN": self.http,
            "BALDISTILL_SERVER__LISTEN": self.rpc,
            "BALDISTILL_SERVER__METRICS_LISTEN": self.metrics,
        }

    @property
    def url(self) -> str:
        return f"http://{self.http}/v1"

    def series(self) -> dict[str, float]:
        """Return what its page of metrics says."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def spent_usd(self) -> dict[tuple[str, str], float]:
        """Return what it reports as spent, by tenant and run."""
        pattern = re.compile(r'baldistill_teacher_gateway_budget_spent_usd\{run="([^"]*)",tenant="([^"]*)"\}')
        found = {}
        for name, value in self.series().items():
            if match := pattern.fullmatch(name):
                found[match[2], match[1]] = value
        return found

    def close(self) -> None:
        self.process.kill()


def loaded(folder: Path, url: str, *, token: str, clients: int, seconds: float) -> dict[str, Any]:
    """Run the load tool; return what it printed."""
    arguments = ["--url", url, "--token", token, "--clients", str(clients), "--seconds", str(seconds)]
    with ModuleProcess("tests.bench.http_load", *arguments, folder=folder, environment=_PATHS) as process:
        measured: dict[str, Any] = json.loads(process.wait().out)
    return measured
