"""What training does with data and machines that are not as they should be: defined, reported, nothing lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import Manifest
from baldistill.datasets.examples import Example
from baldistill.runtime.launching import Job
from baldistill.runtime.progress import no_progress_of_any
from baldistill.student.scoring import PromptAndTarget
from baldistill.student.target_loss import TargetLoss
from baldistill.student.target_loss import target_loss as real_target_loss
from baldistill.testing.small_runs import RUN_ID, TENANT, SmallRun, small_examples
from services.trainer import training
from services.trainer.errors import RowTooLarge
from services.trainer.job import run_job

SIZES = {"billing": 6, "login": 4, "delivery": 2}


class ScarceMemory:
    """A loss on a machine that holds only so many rows at once."""

    def __init__(self, inner: TargetLoss, *, rows: int) -> None:
        self.pads = inner.pads
        self._inner = inner
        self._rows = rows

    def target_token_nll(self, pairs: Sequence[PromptAndTarget]) -> Tensor:
        if len(pairs) > self._rows:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")
        return self._inner.target_token_nll(pairs)


def with_memory_for(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def scarce(*arguments: Any, **options: Any) -> TargetLoss:
        return ScarceMemory(real_target_loss(*arguments, **options), rows=rows)

    monkeypatch.setattr(training, "target_loss", scarce)


def make_run(
    folder: Path, base: Path, *, examples: Sequence[Example] | None = None, **training_changes: Any
) -> tuple[SmallRun, Job]:
    settings = {"epochs": 2, "batch_size": 4, "max_tokens": 256} | training_changes
    student = {"base": str(base), "dtype": "float32", "training": settings}
    run = SmallRun.create(LocalArtifactStore(folder), base=base, pool=SIZES, test=SIZES, student=student)
    run.rationales_collected(stage=1, examples=examples or small_examples(SIZES, prefix="pool"))
    return run, Job(tenant=TENANT, run_id=RUN_ID, epoch=1, stage=1, spec=run.spec)


def train(run: SmallRun, job: Job) -> Manifest:
    run_job(job, lambda: False, store=run.store, progress=no_progress_of_any)
    manifest = run.store.find_manifest(run.frozen.layout.stage(1).student)
    assert manifest is not None
    return manifest


def test_short_memory_halves_the_rows_at_once_and_is_recorded(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plenty = train(*make_run(tmp_path / "plenty", tiny_base))
    with_memory_for(1, monkeypatch)
    short = train(*make_run(tmp_path / "short", tiny_base))
    assert (plenty.attributes["bit_exact"], short.attributes["bit_exact"]) == (True, False)
    assert short.attributes["steps"] == plenty.attributes["steps"]


def test_no_memory_for_one_row_is_a_verdict_that_says_what_to_do(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_memory_for(0, monkeypatch)
    with pytest.raises(RowTooLarge, match=r"lower student\.training\.max_tokens"):
        train(*make_run(tmp_path, tiny_base))
