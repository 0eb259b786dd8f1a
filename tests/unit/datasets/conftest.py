"""A store and files to import."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from baldistill.artifacts.local import LocalArtifactStore

Rows = Sequence[Mapping[str, object]]


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifactStore:
    return LocalArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write rows, or raw lines, to a JSONL file."""

    def write(rows: Rows | Sequence[str], name: str = "train.jsonl") -> Path:
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def row() -> Callable[..., dict[str, object]]:
    """Return a valid row, with changes."""

    def build(number: int = 0, domain: str = "billing", **changes: object) -> dict[str, object]:
        valid = {"id": f"{domain}-{number}", "domain": domain, "input": f"{domain} question {number}", "answer": domain}
        return {**valid, **changes}

    return build
