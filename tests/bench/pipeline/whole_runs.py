"""One spec embedded, with a clock on its useful work, and by `submit --watch` on the local stack, as after `make up`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.events.facts import RunState
from tests.stack.artifacts import data_files, differing
from tests.stack.stack_home import StackHome

_TENANT = "default"
# A run of an hour, on a machine half as fast.
_LONGEST_RUN_S = 7200.0
# What the next service of the chain, or a person, takes on from a stage.
_TAKEN_ON = ("plan.json", "selection.json", "batch.json", "student.json")

Files = Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedRun:
    """seconds: of the whole command, of its useful work, and of what no useful work covers.   files: sha256 by name."""

    run_id: str
    seconds: Mapping[str, float]
    files: Files

    @property
    def overhead_percent(self) -> float:
        return 100 * (1 - self.seconds["useful_s"] / self.seconds["wall_s"])


@dataclass(frozen=True, slots=True, kw_only=True)
class StackRun:
    """wall_s: from the command's start to its end.   differing: files that are not those of the embedded run."""

    wall_s: float
    files: Files
    differing: list[str]


def run_embedded(spec: Path, folder: Path) -> EmbeddedRun:
    """Run a spec in the home of `folder`; where it ended there before, read what was measured then."""
    folder.mkdir(parents=True, exist_ok=True)
    home, result = folder / "home", folder / "useful.json"
    if not result.exists():
        command = [sys.executable, "-m", "tests.bench.useful_work", str(result)]
        command += ["run", str(spec), "--home", str(home), "--quiet"]
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    (run_folder,) = (home / f"artifacts/tenants/{_TENANT}/runs").iterdir()
    store = LocalArtifactStore(home / "artifacts")
    return EmbeddedRun(
        run_id=run_folder.name,
        seconds=json.loads(result.read_text()),
        files=data_files(store, tenant=_TENANT, run_id=run_folder.name),
    )


def run_on_stack(spec: Path, folder: Path, *, twin: EmbeddedRun) -> StackRun:
    """Submit the spec to a new stack with all services and watch it to its end. Raises AssertionError where it fails."""
    with StackHome(folder / "stack") as home:
        began_s = time.monotonic()
        ended = home.command("submit", str(spec.absolute()), "--watch", timeout_s=_LONGEST_RUN_S)
        wall_s = time.monotonic() - began_s
        assert ended.code == 0, f"submit --watch ended with {ended.code}: {ended.err}"
        assert home.states([twin.run_id])[twin.run_id] is RunState.COMPLETED
        files = data_files(home.store, tenant=_TENANT, run_id=twin.run_id)
    return StackRun(wall_s=wall_s, files=files, differing=differing(dict(twin.files), dict(files)))


def taken_on(files: Files) -> Files:
    """Return of a run's files those that later steps take on: plans, selections, batches, adapters."""
    return {
        (manifest, role): sha256
        for (manifest, role), sha256 in files.items()
        if manifest.rpartition("/")[2] in _TAKEN_ON and not role.startswith("tokenizer")
    }
