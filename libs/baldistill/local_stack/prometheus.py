"""Prometheus from the distribution, on the loopback, scraping what it is told to."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from baldistill.local_stack.debian import find_or_install
from baldistill.local_stack.server_process import ServerMissing, ServerProcess

_VERSIONS = Path(__file__).with_name("versions.toml")
_READY_TIMEOUT_S = 2.0
_STOP_TIMEOUT_S = 60


class Prometheus:
    """One server. Its targets may change while it runs: services take free ports, which are known late."""

    def __init__(self, *, folder: Path, port: int, program: Path, scrape_every_s: int) -> None:
        self.port = port
        self._folder = folder
        self._scrape_every_s = scrape_every_s
        self.process = ServerProcess(
            name="Prometheus",
            folder=folder,
            command=[
                str(program), f"--config.file={self._config}", f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            is_ready=self._answers,
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def scrape(self, targets: Mapping[str, Sequence[str]]) -> None:
        """Scrape these from now on. targets: `host:port`s by job, e.g. `policy`; a running server notices at once."""
        groups = [{"targets": list(addresses), "labels": {"job": job}} for job, addresses in targets.items()]
        self._folder.mkdir(parents=True, exist_ok=True)
        # Renamed into place: a running server never reads half a file.
        fresh = self._targets.with_suffix(".new")
        fresh.write_text(json.dumps(groups))
        fresh.replace(self._targets)

    def use_rules(self, groups: Mapping[str, object]) -> None:
        """Evaluate these recording rules and alerts from the next start on. groups: a rules file's content."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._rules.write_text(yaml.safe_dump(dict(groups), sort_keys=False))

    def start(self, *, timeout_s: float = 60.0, dies_with_parent: bool = False) -> None:
        """Start it where it does not run, and wait until it answers. Raises ServerFailed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._targets.exists():
            self.scrape({})
        self._config.write_text(yaml.safe_dump(self._configuration(), sort_keys=False))
        self.process.start(timeout_s=timeout_s, dies_with_parent=dies_with_parent)

    def is_ready(self) -> bool:
        """Ask the server whether it answers queries."""
        return self.process.is_ready()

    def stop(self) -> None:
        """End it politely. Idempotent; its folder keeps the series."""
        self.process.stop()

    def kill(self) -> None:
        """End it by SIGKILL. Idempotent; its folder keeps the series."""
        self.process.kill()

    @property
    def _config(self) -> Path:
        return self._folder / "prometheus.yml"

    @property
    def _targets(self) -> Path:
        return self._folder / "targets.json"

    @property
    def _rules(self) -> Path:
        return self._folder / "rules.yaml"

    def _configuration(self) -> dict[str, object]:
        every = f"{self._scrape_every_s}s"
        files = {"files": [str(self._targets)], "refresh_interval": every}
        return {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(self._rules)] if self._rules.exists() else [],
            # The label `job` of each target takes this name's place.
            "scrape_configs": [{"job_name": "baldistill", "file_sd_configs": [files]}],
        }

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=_READY_TIMEOUT_S) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def make_prometheus(
    folder: Path, *, port: int, targets: Mapping[str, Sequence[str]] | None = None, scrape_every_s: int = 5
) -> Prometheus:
    """Describe a server whose series lie in `folder`; `start` starts it. Raises ServerMissing.

    targets: `host:port`s by job; None keeps those that it was told before.
    """
    server = Prometheus(folder=folder.resolve(), port=port, program=prometheus_program(), scrape_every_s=scrape_every_s)
    if targets is not None:
        server.scrape(targets)
    return server


def promtool() -> Path:
    """Return the tool that comes with the server: it checks and tests rules. Raises ServerMissing."""
    prometheus_program()
    found = shutil.which("promtool")
    if found is None:
        raise ServerMissing("promtool is not on the PATH although Prometheus is; install the whole package")
    return Path(found)


def prometheus_program() -> Path:
    """Return the server; the distribution's is installed where there is none. Raises ServerMissing."""
    package = tomllib.loads(_VERSIONS.read_text())["prometheus"]["package"]
    known = shutil.which("prometheus")
    program = find_or_install(package, wanted_for="Prometheus", find=lambda: shutil.which("prometheus"))
    if known is None:
        _stop_the_packages_own()
    return Path(program)


def _stop_the_packages_own() -> None:
    """Have the service that the package starts by itself not run: it would scrape nothing, on a fixed port."""
    systemctl, service = shutil.which("systemctl"), shutil.which("service")
    if systemctl is not None and Path("/run/systemd/system").is_dir():
        command = [systemctl, "disable", "--now", "prometheus"]
    elif service is not None:
        command = [service, "prometheus", "stop"]
    else:
        return
    # Where it never ran, this fails; both are fine.
    subprocess.run(command, check=False, capture_output=True, timeout=_STOP_TIMEOUT_S)  # noqa: S603  (our own commands)
