"""`python -m services.trainer.parity_process PARENT ASKED REPLY`: an exported student as its users load it, none of our engine."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baldistill.jobs.process_main import die_with
from baldistill.student.precision import compute_device
from baldistill.student.quiet import quiet_transformers


def answer(asked: dict[str, Any]) -> dict[str, list[float]]:
    """Return how far each written answer is from what is greedy here in float32, and the NLL in bfloat16 of those not empty."""
    torch.set_num_threads(asked["threads"])
    stop_ids = torch.tensor(asked["stop_ids"])
    model = _load(asked, dtype=torch.float32)
    gaps = [_gap(model, prompt, ids, stop_ids=stop_ids, ended=ended) for prompt, ids, ended in asked["written"]]
    del model
    model = _load(asked, dtype=torch.bfloat16)
    return {"gaps": gaps, "nll": [_nll(model, prompt, ids) for prompt, ids, _ in asked["written"] if ids]}


def _load(asked: dict[str, Any], *, dtype: torch.dtype) -> Any:
    with quiet_transformers():
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(asked["base"], dtype=dtype, local_files_only=True)
        return PeftModel.from_pretrained(base, asked["folder"]).to(compute_device()).eval()


def _gap(model: Any, prompt: Sequence[int], ids: Sequence[int], *, stop_ids: Tensor, ended: bool) -> float:
    """Return by how many nats at most a token of the answer, or its end, is less likely than the likeliest; 0: greedy."""
    logits = _logits(model, [*prompt, *ids])[len(prompt) - 1 :]
    likeliest = logits.max(dim=-1).values
    own = logits[torch.arange(len(ids)), torch.tensor(ids, dtype=torch.long)]
    gaps = likeliest[: len(ids)] - own
    if ended:
        gaps = torch.cat([gaps, likeliest[-1:] - logits[-1:, stop_ids].max(dim=-1).values])
    return float(gaps.max())


def _nll(model: Any, prompt: Sequence[int], ids: Sequence[int]) -> float:
    """Return the mean over tokens, in nats."""
    logits = _logits(model, [*prompt, *ids])[len(prompt) - 1 : -1]
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids)))


@torch.inference_mode()
def _logits(model: Any, ids: Sequence[int]) -> Tensor:
    """Return the logits after each token, in float32 on the CPU, shape (tokens, vocabulary)."""
    logits: Tensor = model(input_ids=torch.tensor([ids], device=model.device)).logits
    return logits[0].float().cpu()


if __name__ == "__main__":
    parent, asked_file, reply_file = sys.argv[1:]
    die_with(int(parent))
    Path(reply_file).write_text(json.dumps(answer(json.loads(Path(asked_file).read_text()))))
