"""The command line over a tiny student and a small data set, in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from baldistill.testing.tiny_student import build_tiny_student
from services.cli.__main__ import run

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

    def write_spec(self, **changes: Any) -> Path:
        self.spec_path.write_text(yaml.safe_dump(merged(self.spec, changes), sort_keys=False))
        return self.spec_path

    def __call__(self, *arguments: str | Path) -> Answer:
        self.capture()
        code = run([str(argument) for argument in arguments] + ["--home", str(self.home)])
        out, err = self.capture()
        return Answer(code=code, out=out, err=err)


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
        "evaluation": {"per_domain": 2, "final": 10, "max_new_tokens": 4},
    }
