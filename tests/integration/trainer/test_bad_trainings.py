"""What training does with data and machines that are not as they should be: defined, reported, nothing lost."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import Manifest
from baldistill.datasets.examples import Example
from baldistill.errors import InvalidInput
from baldistill.runtime.launching import Job, JobStopped
from baldistill.runtime.progress import always, no_progress_of_any
from baldistill.student.base_models import resolve_base_model
from baldistill.student.loading import load_tokenizer
from baldistill.student.machine import machine_kind
from baldistill.student.rendering import render
from baldistill.student.scoring import PromptAndTarget
from baldistill.student.target_loss import TargetLoss
from baldistill.student.target_loss import target_loss as real_target_loss
from baldistill.testing.small_runs import RUN_ID, TENANT, SmallRun, small_examples
from services.trainer import checkpoints, training
from services.trainer.errors import RowTooLarge, TrainingDiverged
from services.trainer.export import predict
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


class OneBrokenRow:
    """A loss that is no number for rows whose target has as many tokens as is said."""

    def __init__(self, inner: TargetLoss, *, target_tokens: int) -> None:
        self.pads = inner.pads
        self._inner = inner
        self._target_tokens = target_tokens

    def target_token_nll(self, pairs: Sequence[PromptAndTarget]) -> Tensor:
        nll = self._inner.target_token_nll(pairs)
        breaks = [len(target) == self._target_tokens for _, target in pairs for _ in target]
        return torch.where(torch.tensor(breaks), torch.nan, nll)


def test_a_loss_that_is_no_number_stops_and_names_the_row(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Example(example_id="pool-odd", domain="login", input="The password", answer="login " * 9)
    run, job = make_run(tmp_path, tiny_base, examples=[*small_examples(SIZES, prefix="pool"), odd])
    tokenizer = load_tokenizer(resolve_base_model(str(tiny_base)))
    rendered = render(run.frozen, tokenizer, text=odd.input, answer=odd.answer, rationale="It is about login.")

    def breaking(*arguments: Any, **options: Any) -> TargetLoss:
        return OneBrokenRow(real_target_loss(*arguments, **options), target_tokens=len(rendered.target_ids))

    monkeypatch.setattr(training, "target_loss", breaking)
    with pytest.raises(TrainingDiverged, match=r"is not finite \(rows pool-odd\); lower student") as raised:
        train(run, job)
    assert raised.value.row_ids == ("pool-odd",)


def test_a_training_that_runs_away_stops_and_names_the_step_and_its_rows(tmp_path: Path, tiny_base: Path) -> None:
    run, job = make_run(tmp_path, tiny_base, learning_rate=1e37)
    with pytest.raises(TrainingDiverged, match=r"the loss of step [2-6] is not finite") as raised:
        train(run, job)
    assert 0 < len(raised.value.row_ids) <= 4
    assert all(name.startswith("pool-") for name in raised.value.row_ids)
    assert run.store.find_manifest(run.frozen.layout.stage(1).student) is None


@pytest.mark.parametrize("other", [{"cpu": "another"}, {"baldistill": "0.0.1"}])
def test_a_checkpoint_of_another_kind_of_machine_serves_and_is_marked(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, str]
) -> None:
    run, job = make_run(tmp_path, tiny_base)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(checkpoints, "machine_kind", lambda: {**machine_kind(), **other})
        with pytest.raises(JobStopped):
            run_job(job, lambda: True, store=run.store, progress=no_progress_of_any)
    steps: list[int] = []
    run_job(
        job,
        lambda: False,
        store=run.store,
        progress=always(lambda *, step, done, total, unit: steps.append(done) if step == "train" else None),
    )
    assert steps[0] == 1
    manifest = run.store.find_manifest(run.frozen.layout.stage(1).student)
    assert manifest is not None
    assert manifest.attributes["bit_exact"] is False


class Died(BaseException):
    """The end of a process."""


def test_who_dies_with_the_student_stored_leaves_checkpoints_that_the_next_one_deletes(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, job = make_run(tmp_path, tiny_base, checkpoint_every_steps=1)
    layout = run.frozen.layout.stage(1)

    def die(_: checkpoints.Checkpoints) -> None:
        raise Died

    with monkeypatch.context() as dying:
        dying.setattr(checkpoints.Checkpoints, "delete", die)
        with pytest.raises(Died):
            train(run, job)
    stored = run.store.find_manifest(layout.student)
    assert stored is not None
    assert len(list(run.store.list_manifests(prefix=layout.checkpoints_folder))) == 2
    assert train(run, job) == stored
    assert not (tmp_path / layout.checkpoints_folder).exists()


def test_checkpoints_are_due_by_the_clock_too(tmp_path: Path, tiny_base: Path) -> None:
    run, job = make_run(tmp_path, tiny_base, checkpoint_every_steps=1000, checkpoint_every_minutes=1e-9)
    kept: list[int] = []

    def look(*, step: str, done: int, total: int, unit: str) -> None:
        if step == "train":
            kept.append(len(list(run.store.list_manifests(prefix=run.frozen.layout.stage(1).checkpoints_folder))))

    run_job(job, lambda: False, store=run.store, progress=always(look))
    # One a step, of which the newest two are kept.
    assert kept == [0, 0, 1, 2, 2, 2, 2]


def test_an_input_longer_than_the_context_is_cut_and_an_empty_answer_is_trained_as_such(
    tmp_path: Path, tiny_base: Path
) -> None:
    odd = [
        Example(example_id="pool-long", domain="billing", input="word " * 2000, answer="billing"),
        Example(example_id="pool-empty", domain="login", input="The password", answer=""),
    ]
    manifest = train(*make_run(tmp_path, tiny_base, examples=odd))
    assert manifest.attributes["inputs_cut"] == {"billing": 1}
    assert manifest.attributes["rows"] == 2


def test_a_base_model_without_a_pad_token_trains(tmp_path: Path, tiny_base: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for file in tiny_base.iterdir():
        content = file.read_bytes()
        if file.suffix == ".json" and file.name != "tokenizer.json":
            content = json.dumps({k: v for k, v in json.loads(content).items() if "pad_token" not in k}).encode()
        (base / file.name).write_bytes(content)
    with_pad = train(*make_run(tmp_path / "with", tiny_base))
    without = train(*make_run(tmp_path / "without", base))
    assert without.files["adapter_model"].sha256 == with_pad.files["adapter_model"].sha256


def test_a_context_that_the_base_model_has_not_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    with pytest.raises(InvalidInput, match="more than the base model's context") as raised:
        train(*make_run(tmp_path, tiny_base, max_tokens=100_000))
    assert raised.value.field == "student.training.max_tokens"


def test_an_answer_longer_than_the_context_is_refused_never_cut(tmp_path: Path, tiny_base: Path) -> None:
    odd = [Example(example_id="pool-long", domain="billing", input="word", answer="refund " * 300)]
    with pytest.raises(InvalidInput, match="need more than 256 tokens even with an empty input"):
        train(*make_run(tmp_path, tiny_base, examples=odd))


def test_a_damaged_checkpoint_alone_has_the_training_begin_anew_with_the_same_bytes(
    tmp_path: Path, tiny_base: Path
) -> None:
    undisturbed = train(*make_run(tmp_path / "undisturbed", tiny_base))
    run, job = make_run(tmp_path / "damaged", tiny_base)
    with pytest.raises(JobStopped):
        run_job(job, lambda: True, store=run.store, progress=no_progress_of_any)
    (key,) = run.store.list_manifests(prefix=run.frozen.layout.stage(1).checkpoints_folder)
    checkpoint = run.store.find_manifest(key)
    assert checkpoint is not None
    run.store.local_path(checkpoint.files["checkpoint"]).write_bytes(b"damaged")
    assert train(run, job).files["adapter_model"].sha256 == undisturbed.files["adapter_model"].sha256


def test_a_base_model_that_changed_under_its_adapter_is_refused_until_it_is_back(
    tmp_path: Path, tiny_base: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    run, job = make_run(tmp_path / "run", base)
    student = train(run, job)
    weights = base / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"\0\0\0\1")
    # What it is asked for: an answer, and a training of the next stage.
    run.rationales_collected(stage=2, examples=small_examples({"billing": 2}, prefix="more"))
    with pytest.raises(InvalidInput, match="put the earlier weights back, or start a new run"):
        predict(run.store, run.frozen, stage=1, texts=["The refund"])
    with pytest.raises(InvalidInput, match="put the earlier weights back, or start a new run"):
        run_job(dataclasses.replace(job, stage=2), lambda: False, store=run.store, progress=no_progress_of_any)
    assert run.store.find_manifest(run.frozen.layout.stage(1).student) == student
    weights.write_bytes(whole)
    assert len(predict(run.store, run.frozen, stage=1, texts=["The refund"])) == 1
