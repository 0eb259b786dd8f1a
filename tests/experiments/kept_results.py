"""Results of single cells as small files that are committed: numbers only, no text of the data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from baldistill.specs.runspec import RunSpec
from services.cli.comparing.outcomes import CellOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResult:
    """date: UTC day on which the run ended.   machine: what it ran on.   dataset: name@version.

    spec_sha256: of all that its spec sets; a result of another spec is not shown and is made anew.
    """

    outcome: CellOutcome
    dataset: str
    date: str
    machine: str
    spec_sha256: str

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        document = asdict(self)
        scratch = path.with_suffix(".tmp")
        scratch.write_text(_compact(document), encoding="utf-8")
        scratch.replace(path)

    @classmethod
    def read(cls, path: Path) -> KeptResult:
        """Read what `write` wrote."""
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**document, "outcome": CellOutcome.from_json(document["outcome"])})


def spec_digest(spec: RunSpec) -> str:
    """Return the hash of what a spec sets. Defaults are left out: a new setting makes no old result invalid."""
    text = json.dumps(spec.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _compact(document: Mapping[str, Any]) -> str:
    """One line for each top-level value of the outcome: a change of one of them is a change of one line."""
    outcome = document["outcome"]
    head = ",\n".join(
        f" {json.dumps(name)}: {json.dumps(document[name])}" for name in ("dataset", "date", "machine", "spec_sha256")
    )
    lines = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in outcome.items()
    )
    return f'{{\n{head},\n "outcome": {{\n{lines}\n }}\n}}\n'
