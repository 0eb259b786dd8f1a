"""The command line over a tiny student and a small data set, in a folder of its own."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactStore, require_manifest
from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import migrate
from baldistill.testing.processes import Ended, ModuleProcess
from baldistill.testing.tiny_student import build_tiny_student
from services.cli.__main__ import run
from services.cli.home import HomeLayout
from services.teacher_gateway.composition import build_teacher_gateway, run_budgets
from services.teacher_gateway.ledger.budgets import BudgetStatus
from services.teacher_gateway.ledger.holds import Attempt, HoldState

WORDS = {
    "billing": ["invoice", "charge", "refund", "card", "price"],
    "login": ["password", "account", "reset", "locked", "code"],
    "shipping": ["parcel", "late", "address", "courier", "track"],
    "gift": ["voucher", "card", "present", "balance"],
}
SIZES = {"billing": 40, "login": 20, "shipping": 9, "gift": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass
class CommandLine:
    """Runs commands in this process, in a folder with data and spec."""

    folder: Path
    capture: Callable[[], tuple[str, str]]
    spec: dict[str, Any] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def spec_path(self) -> Path:
        return self.folder / "run.yaml"

    @property
    def separately(self) -> RunHome:
        """The same home and spec for processes of their own."""
        return RunHome(root=self.home, spec_path=self.spec_path)

    def write_spec(self, **changes: Any) -> Path:
        self.spec_path.write_text(yaml.safe_dump(merged(self.spec, changes), sort_keys=False))
        return self.spec_path

    def __call__(self, *arguments: str | Path) -> Answer:
        self.capture()
        code = run([str(argument) for argument in arguments] + ["--home", str(self.home)])
        out, err = self.capture()
        return Answer(code=code, out=out, err=err)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the ledger says of a run: its budget as the last process left it, and every attempt."""

    budget: BudgetStatus
    attempts: list[Attempt]

    @property
    def stored(self) -> int:
        return len(self.ids(HoldState.SETTLED))

    @property
    def unknown(self) -> int:
        return len(self.ids(HoldState.UNKNOWN))

    def ids(self, state: HoldState) -> set[str]:
        return {one.request_id for one in self.attempts if one.state is state}

    def must_explain(self, seen: list[str]) -> None:
        """Claim that no call is unexplained, no answer was paid twice and the ceiling held. seen: by the provider."""
        stored, unknown = self.ids(HoldState.SETTLED), self.ids(HoldState.UNKNOWN)
        assert stored <= set(seen) <= stored | unknown
        assert len(seen) == len(set(seen))
        stored_as = {one.request_key: one.attempt for one in self.attempts if one.state is HoldState.SETTLED}
        assert len(stored_as) == len(stored)
        for request_id in seen:
            key, _, attempt = request_id.rpartition("/")
            assert int(attempt) <= stored_as.get(key, int(attempt)), "asked again after its reply was stored"
        assert self.budget.held.calls == 0
        assert self.budget.ceilings.calls is not None
        assert len(seen) <= self.budget.spent.calls == len(stored) + len(unknown) <= self.budget.ceilings.calls


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHome:
    """A home whose commands are processes of their own, and what one run left there."""

    root: Path
    spec_path: Path

    @property
    def layout(self) -> HomeLayout:
        return HomeLayout(root=self.root)

    @property
    def store(self) -> ArtifactStore:
        return LocalArtifactStore(self.layout.artifacts)

    @property
    def run_id(self) -> str:
        (folder,) = (self.layout.artifacts / "tenants/default/runs").iterdir()
        return folder.name

    def start(self, *options: str) -> ModuleProcess:
        """Start `baldistill run`. Use it in a `with` block: it does not outlive it."""
        folder = self.spec_path.parent
        number = len(list(folder.glob("process-*")))
        return ModuleProcess(
            "services.cli",
            *("run", str(self.spec_path), "--home", str(self.root), "--quiet", *options),
            folder=folder / f"process-{number}",
            environment={"OPENAI_API_KEY": "not-a-real-key"},
        )

    def run(self, *options: str) -> Ended:
        with self.start(*options) as process:
            return process.wait()

    def manifests(self) -> list[str]:
        """Return the manifests that are there by their keys below the run's folder, also while the run works."""
        runs = self.layout.artifacts / "tenants/default/runs"
        # os.walk takes it well that folders of checkpoints go away meanwhile.
        paths = [Path(folder, name) for folder, _, names in os.walk(runs) for name in names if name.endswith(".json")]
        return sorted(path.relative_to(runs).as_posix().partition("/")[2] for path in paths)

    def data_files(self) -> dict[tuple[str, str], str]:
        """Return the sha256 of every file that a manifest of the run names, read and checked."""
        prefix = f"tenants/default/runs/{self.run_id}"
        found = {}
        for key in self.store.list_manifests(prefix=prefix):
            for role, ref in require_manifest(self.store, key).files.items():
                self.store.local_path(ref)
                found[key.removeprefix(f"{prefix}/"), role] = ref.sha256
        return found

    def logged(self) -> list[dict[str, Any]]:
        """Return the events of the run's logs."""
        return [json.loads(line) for path in self.layout.logs.glob("*.jsonl") for line in path.read_text().splitlines()]

    def files(self) -> dict[str, str]:
        """Return the sha256 of every file in the store by its path, whatever names it."""
        root = self.layout.artifacts
        return {
            path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }

    def must_be_whole(self) -> None:
        """Claim that nothing is half-written: manifests and what they name, the database, no temporary file."""
        for key in self.store.list_manifests(prefix="tenants"):
            for ref in require_manifest(self.store, key).files.values():
                self.store.local_path(ref)
        assert not [name for name in self.files() if name.startswith(".tmp/")]
        with closing(sqlite3.connect(self.layout.database)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    def account(self) -> Account:
        engine = open_database(sqlite_url(self.layout.database))
        migrate(engine)
        try:
            # Read before the gateway is built, which ends what a dead process holds.
            budget = run_budgets(engine, tenant="default", run_id=self.run_id)[0]
            gateway = build_teacher_gateway(store=self.store, engine=engine, locks=self.layout.locks, environment={})
            attempts = gateway.attempts(tenant="default", run_id=self.run_id)
            gateway.close()
        finally:
            engine.dispose()
        return Account(budget=budget, attempts=attempts)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` put into it, mapping by mapping."""
    result = dict(base)
    for key, value in changes.items():
        known = result.get(key)
        result[key] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


def ticket_rows(sizes: dict[str, int]) -> list[dict[str, str]]:
    return [
        {
            "id": f"{domain}-{number}",
            "domain": domain,
            "input": f"{WORDS[domain][number % len(WORDS[domain])]} question number {number} about {domain}",
            "answer": domain,
        }
        for domain, size in sizes.items()
        for number in range(size)
    ]


def write_jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_student(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def baldistill(
    tmp_path: Path, tiny_student: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    # Rich folds lines to the terminal's width; tests look for whole sentences.
    monkeypatch.setenv("COLUMNS", "250")
    write_jsonl(tmp_path / "train.jsonl", ticket_rows(SIZES))

    def capture() -> tuple[str, str]:
        captured = capsys.readouterr()
        return captured.out, captured.err

    return CommandLine(folder=tmp_path, capture=capture, spec=small_spec(tiny_student))


@pytest.fixture(scope="session")
def make_run_home(tiny_student: Path) -> Callable[..., RunHome]:
    """Makes a home in a folder, with data of these sizes and a spec with these changes beside it."""

    def make(folder: Path, *, sizes: dict[str, int] = SIZES, **changes: Any) -> RunHome:
        folder.mkdir(exist_ok=True)
        write_jsonl(folder / "train.jsonl", ticket_rows(sizes))
        spec_path = folder / "run.yaml"
        spec_path.write_text(yaml.safe_dump(merged(small_spec(tiny_student), changes), sort_keys=False))
        return RunHome(root=folder / "home", spec_path=spec_path)

    return make


def small_spec(student: Path) -> dict[str, Any]:
    return {
        "name": "small",
        "dataset": {"name": "tickets", "train": "train.jsonl"},
        "method": "baldistill_a",
        "stages": 2,
        "budget": {"examples": 16},
        "teacher": {"kind": "protocol", "max_completion_tokens": 64},
        "selection": {"candidates_per_pick": 2, "max_new_tokens": 4, "rows_per_shard": 4, "shards_in_flight": 2},
        "student": {
            "base": str(student),
            "dtype": "float32",
            "training": {"epochs": 1, "batch_size": 4, "micro_batch_size": 4, "checkpoint_every_steps": 2},
        },
        "evaluation": {"parity_items": 0, "per_domain": 2, "final": 10, "max_new_tokens": 4},
    }
