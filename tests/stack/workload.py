"""Small whole runs for the stack: a teacher that counts, data with a long tail, specs, and their uninterrupted twins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.testing.processes import ModuleProcess, TeacherProcess
from tests.stack.artifacts import data_files

SIZES = {"billing": 80, "login": 50, "shipping": 9, "gift": 4}
_WORDS = {
    "billing": ["invoice", "charge", "refund", "card", "price"],
    "login": ["password", "account", "reset", "locked", "code"],
    "shipping": ["parcel", "late", "address", "courier", "track"],
    "gift": ["voucher", "card", "present", "balance"],
}
_FREE = {"input_usd_per_million_tokens": 0, "output_usd_per_million_tokens": 0}
PLANNED_CALLS = 48
# Room for attempts whose outcome a kill left UNKNOWN: same bytes are promised within the headroom only (DESIGN 5).
HEADROOM_CALLS = 200
# Runs that differ in their seed alone, so that a few uninterrupted ones serve for many.
VARIANTS = 3


class Workload:
    """Use it in a `with` block: the teachers run as long. References have a teacher of their own, which nobody audits."""

    def __init__(
        self,
        folder: Path,
        *,
        student: Path,
        stages: int = 2,
        latency_s: float = 0.2,
        behaviour: Mapping[str, float] | None = None,
    ) -> None:
        """behaviour: of the audited teacher, beside its latency."""
        self.folder = folder
        self._student = student
        self._stages = stages
        self.teacher = TeacherProcess(folder / "teacher", behaviour={"latency_s": latency_s} | dict(behaviour or {}))
        self._reference_teacher = TeacherProcess(folder / "reference-teacher", behaviour={"latency_s": 0.0})
        self._references: dict[int, dict[tuple[str, str], str]] = {}

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = (
            {
                "id": f"{domain}-{number}",
                "domain": domain,
                "input": f"{_WORDS[domain][number % len(_WORDS[domain])]} question number {number} about {domain}",
                "answer": domain,
            }
            for domain, size in SIZES.items()
            for number in range(size)
        )
        (self.folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.teacher.start()
        self._reference_teacher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.teacher.stop()
        self._reference_teacher.stop()

    def seen(self) -> list[str]:
        """Return the attempt ids that the audited teacher saw."""
        return self.teacher.seen()

    @staticmethod
    def variant(number: int) -> int:
        """Return which reference run number `number` is compared with."""
        return number % VARIANTS

    def spec(self, number: int, *, under: Path, **changes: Any) -> Path:
        """Write the spec of run number `number` and return its path."""
        spec = self._spec(f"run-{number}", variant=self.variant(number), url=self.teacher.url) | changes
        under.mkdir(parents=True, exist_ok=True)
        path = under / f"{spec['name']}.yaml"
        path.write_text(yaml.safe_dump(spec, sort_keys=False))
        return path

    def make_references(self, variants: int = VARIANTS) -> None:
        """Run each variant embedded and uninterrupted, once."""
        for variant in range(variants):
            if variant in self._references:
                continue
            name = f"reference-{variant}"
            path = self.folder / f"{name}.yaml"
            spec = self._spec(name, variant=variant, url=self._reference_teacher.url)
            path.write_text(yaml.safe_dump(spec, sort_keys=False))
            home = self.folder / f"home-{variant}"
            with ModuleProcess(
                "services.cli", "run", str(path), "--home", str(home), "--quiet",
                folder=self.folder / f"process-{variant}", environment={"OPENAI_API_KEY": "not-a-real-key"},
            ) as process:  # fmt: skip
                ended = process.wait()
                assert ended.code == 0, ended.err
            (run_folder,) = (home / "artifacts/tenants/default/runs").iterdir()
            store = LocalArtifactStore(home / "artifacts")
            self._references[variant] = data_files(store, tenant="default", run_id=run_folder.name)

    def reference(self, variant: int) -> dict[tuple[str, str], str]:
        """Return the files of an uninterrupted run."""
        return self._references[variant]

    def teacher_spec(self, **changes: Any) -> dict[str, Any]:
        """Return the spec's `teacher`, with changes."""
        return self._teacher_spec(self.teacher.url) | changes

    def student_spec(self, *, epochs: int = 4) -> dict[str, Any]:
        """Return the spec's `student`."""
        training = {"epochs": epochs, "batch_size": 4, "micro_batch_size": 4, "checkpoint_every_steps": 2}
        return {"base": str(self._student), "dtype": "float32", "training": training}

    @staticmethod
    def _teacher_spec(url: str) -> dict[str, Any]:
        return {
            "kind": "openai",
            "model": "protocol",
            "base_url": url,
            "price": _FREE,
            "concurrency": 3,
            "max_completion_tokens": 64,
            # Many shards of each kind, so that there is something to share and to disturb.
            "rows_per_shard": 1,
            "timeout_s": 10,
            "max_attempts": 8,
        }

    def _spec(self, name: str, *, variant: int, url: str) -> dict[str, Any]:
        return {
            "name": name,
            "dataset": {"name": "tickets", "train": str(self.folder / "train.jsonl")},
            "method": "baldistill_a",
            "stages": self._stages,
            "seed": 10 + variant,
            "threads": 1,
            "budget": {"examples": PLANNED_CALLS, "calls": PLANNED_CALLS + HEADROOM_CALLS},
            "teacher": self._teacher_spec(url),
            "selection": {"candidates_per_pick": 2, "max_new_tokens": 4, "rows_per_shard": 1, "shards_in_flight": 16},
            "student": self.student_spec(),
            "evaluation": {"parity_items": 0, "per_domain": 2, "final": 10, "max_new_tokens": 4},
        }
