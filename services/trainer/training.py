"""The training of one stage's student, as one story (DESIGN 2.6)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from baldistill.runtime.launching import JobStopped, ShouldStop
from baldistill.runtime.progress import ProgressSink
from baldistill.seeding import stable_hash
from baldistill.specs.frozen import FrozenRun
from baldistill.student.loading import Student
from baldistill.student.lora import (
    adapter_weights,
    attach_fresh,
    canonical_adapter_config,
    trainable_parameters,
)
from baldistill.student.rendering import RenderedExample, render
from baldistill.student.target_loss import target_loss
from services.trainer.batches import TrainingRow, batches_of_epoch
from services.trainer.checkpoints import Checkpoints, TrainingState
from services.trainer.errors import TrainingDiverged

# Where rows are padded, at least this share of a pass is text. News articles shuffled into passes of 16 were three quarters
# padding, which costs as much as text does.
_LEAST_FILLED = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedAdapter:
    """What training made. weights: by PEFT's names, float32.   config: adapter_config.json.

    target_tokens: of all rows, once.   inputs_cut: rows whose input was shortened, by domain.
    final_loss: mean over the last epoch in nats per target token, dropout on.
    """

    weights: dict[str, Tensor]
    config: bytes
    steps: int
    rows: int
    target_tokens: int
    inputs_cut: dict[str, int]
    final_loss: float


def train_adapter(
    base: Student,
    frozen: FrozenRun,
    rows: Sequence[TrainingRow],
    *,
    stage: int,
    checkpoints: Checkpoints,
    progress: ProgressSink,
    should_stop: ShouldStop,
) -> TrainedAdapter:
    """Train a fresh adapter on `rows`, going on from the newest checkpoint where there is one.

    Exact: interrupted anywhere and run again, it returns the bytes of an uninterrupted training, on the same kind of
    CPU and number of threads. A step's loss is the mean over the target tokens of its batch, however it is cut into
    micro batches.   base: its model is changed.
    Raises JobStopped after a checkpoint, TrainingDiverged, InvalidInput (a target that is too long), StorageFull.
    """
    spec = frozen.spec.student
    settings = spec.training
    rendered = [
        render(frozen, base.tokenizer, text=row.input, answer=row.answer, rationale=row.rationale) for row in rows
    ]

    # One generator for all that is random in training: other threads move on torch's global one.
    rng = torch.Generator(device=base.device).manual_seed(stable_hash(frozen.spec.seed, stage, "adapter") >> 1)
    adapted = attach_fresh(base.model, spec.lora, base_name=frozen.base_model.name, rng=rng)
    adapted.train()
    parameters = trainable_parameters(adapted)
    loss = target_loss(adapted, device=base.device)
    # No weight decay, as in QLoRA, whose recipe the paper follows.
    optimizer = torch.optim.AdamW(parameters.values(), lr=settings.learning_rate, weight_decay=0.0)
    state = TrainingState(parameters=parameters, optimizer=optimizer, rng=rng)
    checkpoints.restore_newest(state)

    steps_per_epoch = -(-len(rows) // settings.batch_size)
    steps = settings.epochs * steps_per_epoch
    progress(step="train", done=state.step, total=steps, unit="steps")
    while state.step < steps:
        epoch, step_of_epoch = divmod(state.step, steps_per_epoch)
        if step_of_epoch == 0:
            state.epoch_nll, state.epoch_tokens = 0.0, 0
        # A shuffle is microseconds beside a step, and needs no place in the checkpoint.
        batch = batches_of_epoch(
            rows=len(rows), batch_size=settings.batch_size, seed=frozen.spec.seed, stage=stage, epoch=epoch
        )[step_of_epoch]

        tokens = sum(len(rendered[row].target_ids) for row in batch)
        nll = 0.0
        least_filled = _LEAST_FILLED if loss.pads else 0.0
        for rows_at_once in _passes(batch, rendered, size=settings.micro_batch_size, least_filled=least_filled):
            pairs = [(rendered[row].prompt_ids, rendered[row].target_ids) for row in rows_at_once]
            summed = loss.target_token_nll(pairs).sum()
            torch.autograd.backward([summed / tokens])
            nll += float(summed.detach())
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), settings.max_grad_norm)
        if not torch.isfinite(norm) or not math.isfinite(nll):
            raise TrainingDiverged(step=state.step + 1, row_ids=[rows[row].row_id for row in batch])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        state.step += 1
        state.epoch_nll += nll
        state.epoch_tokens += tokens
        progress(step="train", done=state.step, total=steps, unit="steps")
        if should_stop() and state.step < steps:
            checkpoints.save(state)
            raise JobStopped
        if state.step % settings.checkpoint_every_steps == 0 and state.step < steps:
            checkpoints.save(state)

    return TrainedAdapter(
        weights=adapter_weights(adapted),
        config=canonical_adapter_config(adapted),
        steps=steps,
        rows=len(rows),
        target_tokens=sum(len(one.target_ids) for one in rendered),
        inputs_cut=dict(
            sorted(Counter(row.domain for row, one in zip(rows, rendered, strict=True) if one.input_cut).items())
        ),
        final_loss=state.epoch_nll / state.epoch_tokens,
    )


def _passes(
    batch: Sequence[int], rendered: Sequence[RenderedExample], *, size: int, least_filled: float
) -> list[list[int]]:
    """Cut a step's rows into forward passes of at most `size` rows, longest first, of about equal length each."""
    passes: list[list[int]] = []
    for row in sorted(batch, key=lambda row: (-rendered[row].length, row)):
        if passes and len(passes[-1]) < size:
            longest = rendered[passes[-1][0]].length
            if rendered[row].length >= least_filled * longest:
                passes[-1].append(row)
                continue
        passes.append([row])
    return passes
