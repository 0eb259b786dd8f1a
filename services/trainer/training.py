"""The training of one stage's student, as one story (DESIGN 2.6)."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
from baldistill.student.rendering import render
from baldistill.student.replicas import OneProcess, Replicas
from baldistill.student.target_loss import target_loss
from services.trainer.batches import TrainingRow, batches_of_epoch
from services.trainer.checkpoints import Checkpoints, TrainingState
from services.trainer.errors import ReplicasDisagree, TrainingDiverged
from services.trainer.passes import StepPasses

_ALONE = OneProcess()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedAdapter:
    """What training made. weights: by PEFT's names, float32.   config: adapter_config.json.

    target_tokens: of all rows, once.   inputs_cut: rows whose input was shortened, by domain.
    final_loss: mean over the last epoch in nats per target token, dropout on.   bit_exact: another training of the same
    spec on the same kind of machine has the same bytes; not so where it went on on another kind, or memory was short.
    """

    weights: dict[str, Tensor]
    config: bytes
    steps: int
    rows: int
    target_tokens: int
    inputs_cut: dict[str, int]
    final_loss: float
    bit_exact: bool


def train_adapter(
    base: Student,
    frozen: FrozenRun,
    rows: Sequence[TrainingRow],
    *,
    stage: int,
    checkpoints: Checkpoints,
    progress: ProgressSink,
    should_stop: ShouldStop,
    replicas: Replicas = _ALONE,
    clock: Callable[[], float] = time.monotonic,
) -> TrainedAdapter:
    """Train a fresh adapter on `rows`, going on from the newest checkpoint where there is one.

    Exact: interrupted anywhere and run again, it returns the bytes of an uninterrupted training, on the same kind of
    CPU and number of threads. A step's loss is the mean over the target tokens of its batch, however it is cut into
    passes.   base: its model is changed.   replicas: other processes that compute a share of each step; the first saves.
    clock: in seconds.
    Raises JobStopped after a checkpoint, TrainingDiverged, RowTooLarge, InvalidInput (a target that is too long),
    ReplicaLost, ReplicasDisagree, StorageFull.
    """
    spec = frozen.spec.student
    settings = spec.training
    rendered = [
        render(frozen, base.tokenizer, text=row.input, answer=row.answer, rationale=row.rationale) for row in rows
    ]

    # A generator of our own: other threads move on torch's global one. Dropout's numbers are drawn anew from each step.
    rng = torch.Generator(device=base.device).manual_seed(stable_hash(frozen.spec.seed, stage, "adapter") >> 1)
    adapted = attach_fresh(base.model, spec.lora, base_name=frozen.base_model.name, rng=rng)
    adapted.train()
    parameters = trainable_parameters(adapted)
    # No weight decay, as in QLoRA, whose recipe the paper follows.
    optimizer = torch.optim.AdamW(parameters.values(), lr=settings.learning_rate, weight_decay=0.0)
    state = TrainingState(parameters=parameters, optimizer=optimizer, rows_at_once=settings.micro_batch_size)
    checkpoints.restore_newest(state)
    _require_same_step(state, replicas)
    passes = StepPasses(
        loss=target_loss(adapted, device=base.device), rendered=rendered, rows_at_once=state.rows_at_once
    )

    def begin_step() -> None:
        optimizer.zero_grad(set_to_none=True)
        rng.manual_seed(stable_hash(frozen.spec.seed, stage, "dropout", state.step, replicas.rank) >> 1)

    steps_per_epoch = -(-len(rows) // settings.batch_size)
    steps = settings.epochs * steps_per_epoch
    saved_s = clock()
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
        longest_first = sorted(batch, key=lambda row: (-rendered[row].length, row))
        own = passes.run(longest_first[replicas.rank :: replicas.count], tokens=tokens, begin=begin_step)
        halved = passes.rows_at_once < state.rows_at_once
        replicas.sum_gradients(parameters.values())
        nll, stops, halvings = replicas.sum([sum(own.values()), float(should_stop()), float(halved)])
        # Fewer rows at once, in any of the processes: sums in another order are other bytes.
        state.rows_at_once, state.bit_exact = passes.rows_at_once, state.bit_exact and not halvings
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), settings.max_grad_norm)
        if not torch.isfinite(norm) or not math.isfinite(nll):
            broken = _rows_without_a_loss(batch, own, replicas) or batch
            raise TrainingDiverged(step=state.step + 1, row_ids=[rows[row].row_id for row in broken])
        optimizer.step()

        state.step += 1
        state.epoch_nll += nll
        state.epoch_tokens += tokens
        progress(step="train", done=state.step, total=steps, unit="steps")
        if state.step == steps:
            break
        is_due = clock() - saved_s >= 60 * settings.checkpoint_every_minutes
        if replicas.rank == 0 and (stops or is_due or state.step % settings.checkpoint_every_steps == 0):
            checkpoints.save(state)
            saved_s = clock()
        if stops:
            raise JobStopped

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
        bit_exact=state.bit_exact,
    )


def _require_same_step(state: TrainingState, replicas: Replicas) -> None:
    """Of several processes, none goes on from another checkpoint than the others. Raises ReplicasDisagree."""
    (steps,) = replicas.sum([state.step])
    if steps != state.step * replicas.count:
        raise ReplicasDisagree(step=state.step, rank=replicas.rank)


def _rows_without_a_loss(batch: Sequence[int], own: Mapping[int, float], replicas: Replicas) -> list[int]:
    """Return a step's rows whose loss is no number, whichever process computed it. own: this one's, by row."""
    broken = replicas.sum([float(row in own and not math.isfinite(own[row])) for row in batch])
    return [row for row, is_broken in zip(batch, broken, strict=True) if is_broken]
