"""Our side of `make bench-trainer`: `python -m tests.bench.trainer_ours WORK OUT DROPOUT`, a process of its own.

The steps of services/trainer/training.py over batches that are given, without its store.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from baldistill.specs.runspec import LoraSpec
from baldistill.student.base_models import resolve_base_model
from baldistill.student.loading import load_trainable_base
from baldistill.student.lora import adapter_weights, attach_fresh, canonical_adapter_config, trainable_parameters
from baldistill.student.precision import begin_student_compute, resolve_dtype
from baldistill.student.target_loss import target_loss

LORA = {"r": 8, "alpha": 16, "targets": ("q_proj", "v_proj")}


def write_fresh_adapter(base: str, folder: Path) -> None:
    """Store an untrained adapter as a PEFT folder, from which both sides begin."""
    student = load_trainable_base(resolve_base_model(base), dtype=resolve_dtype("float32"))
    rng = torch.Generator().manual_seed(1)
    adapted = attach_fresh(student.model, LoraSpec(dropout=0.0, **LORA), base_name=base, rng=rng)
    folder.mkdir(parents=True)
    save_file(adapter_weights(adapted), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_bytes(canonical_adapter_config(adapted))


def train(work: dict[str, Any], *, dropout: float) -> dict[str, Any]:
    """Train on the batches; return losses and seconds by step, and peak memory."""
    from peft import set_peft_model_state_dict

    begin_student_compute(threads=work["threads"])
    student = load_trainable_base(resolve_base_model(work["base"]), dtype=resolve_dtype("auto"))
    rng = torch.Generator().manual_seed(2)
    adapted = attach_fresh(student.model, LoraSpec(dropout=dropout, **LORA), base_name=work["base"], rng=rng)
    set_peft_model_state_dict(adapted, load_file(Path(work["adapter"]) / "adapter_model.safetensors"))
    adapted.train()
    parameters = trainable_parameters(adapted)
    loss = target_loss(adapted, device=student.device)
    optimizer = torch.optim.AdamW(parameters.values(), lr=work["learning_rate"], weight_decay=0.0)
    losses, seconds = [], []
    for batch in work["batches"]:
        began = time.perf_counter()
        mean = loss.target_token_nll(batch).mean()
        torch.autograd.backward([mean])
        torch.nn.utils.clip_grad_norm_(parameters.values(), work["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(mean.detach()))
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    weights = f"{work['adapter']}-ours.safetensors"
    save_file(adapter_weights(adapted), weights)
    return {
        "losses": losses,
        "seconds": seconds,
        "peak_mib": peak / 1024,
        "weights": weights,
        "setting": student.dtype.value,
    }


if __name__ == "__main__":
    work_file, out_file, dropout_share = sys.argv[1:]
    Path(out_file).write_text(json.dumps(train(json.loads(Path(work_file).read_text()), dropout=float(dropout_share))))
