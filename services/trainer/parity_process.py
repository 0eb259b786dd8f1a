"""`python -m services.trainer.parity_process PARENT ASKED REPLY`: an exported student as its users load it, none of our engine."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from baldistill.jobs.process_main import die_with
from baldistill.student.batching import length_ordered_batches
from baldistill.student.precision import compute_device
from baldistill.student.quiet import quiet_transformers

# Padded, of one forward pass: products are at their fastest from some hundred tokens on.
_TOKENS_AT_ONCE = 1024

# A prompt, the answer that our engine wrote after it, and whether it ended there.
_Written: TypeAlias = tuple[list[int], list[int], bool]


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Return how far each written answer is from what is greedy here in float32, and the NLL in bfloat16 of those not empty.

    computing_s: seconds of forward passes, without loading.
    """
    torch.set_num_threads(asked["threads"])
    stop_ids = torch.tensor(asked["stop_ids"])
    written: list[_Written] = asked["written"]
    clock = _Clock()
    model = _load(asked, dtype=torch.float32)
    with clock:
        gaps = _of_each(model, written, lambda logits, one: _gap(logits, one, stop_ids=stop_ids))
    del model
    model = _load(asked, dtype=torch.bfloat16)
    with clock:
        nll = _of_each(model, [one for one in written if one[1]], _nll)
    return {"gaps": gaps, "nll": nll, "computing_s": clock.total_s}


class _Clock:
    """Adds up the seconds of its `with` blocks."""

    def __init__(self) -> None:
        self.total_s = 0.0

    def __enter__(self) -> None:
        self._began_s = time.monotonic()

    def __exit__(self, *_error: object) -> None:
        self.total_s += time.monotonic() - self._began_s


def _import_everything() -> None:
    """Spend the seconds of imports while there is nothing to answer yet."""
    with quiet_transformers():
        import peft  # noqa: F401
        from transformers import AutoModelForCausalLM  # noqa: F401


def _load(asked: dict[str, Any], *, dtype: torch.dtype) -> Any:
    with quiet_transformers():
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(asked["base"], dtype=dtype, local_files_only=True)
        return PeftModel.from_pretrained(base, asked["folder"]).to(compute_device()).eval()


def _of_each(model: Any, written: Sequence[_Written], measure: Callable[[Tensor, _Written], float]) -> list[float]:
    """Return a measure of each, from the logits after the last token of its prompt and after each of its answer."""
    values = [0.0] * len(written)
    lengths = [len(prompt) + len(ids) for prompt, ids, _ in written]
    for batch in length_ordered_batches(lengths, batch_size=len(written), max_tokens=_TOKENS_AT_ONCE):
        rows = [written[item] for item in batch]
        for item, logits in zip(batch, _logits(model, rows), strict=True):
            values[item] = measure(logits, written[item])
    return values


def _gap(logits: Tensor, written: _Written, *, stop_ids: Tensor) -> float:
    """Return by how many nats at most a token of the answer, or its end, is less likely than the likeliest; 0: greedy."""
    _, ids, ended = written
    likeliest = logits.max(dim=-1).values
    own = logits[torch.arange(len(ids)), torch.tensor(ids, dtype=torch.long)]
    gaps = likeliest[: len(ids)] - own
    if ended:
        gaps = torch.cat([gaps, likeliest[-1:] - logits[-1:, stop_ids].max(dim=-1).values])
    return float(gaps.max())


def _nll(logits: Tensor, written: _Written) -> float:
    """Return the mean over tokens, in nats."""
    return float(torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(written[1])))


@torch.inference_mode()
def _logits(model: Any, rows: Sequence[_Written]) -> list[Tensor]:
    """Return for each row the logits from the last token of its prompt on, in float32 on the CPU, shape (tokens, vocabulary)."""
    ids = [torch.tensor([*prompt, *answered]) for prompt, answered, _ in rows]
    mask = [torch.ones_like(row) for row in ids]
    # Padded on the right, where no real token looks. What comes before all answers needs no logits.
    first = min(len(prompt) for prompt, _, _ in rows) - 1
    kept = max(map(len, ids)) - first
    out = model(
        input_ids=pad_sequence(ids, batch_first=True).to(model.device),
        attention_mask=pad_sequence(mask, batch_first=True).to(model.device),
        logits_to_keep=kept,
    ).logits
    return [
        row[len(prompt) - 1 - first : len(prompt) + len(answered) - first].float().cpu()
        for row, (prompt, answered, _) in zip(out, rows, strict=True)
    ]


if __name__ == "__main__":
    parent, asked_file, reply_file = sys.argv[1:]
    die_with(int(parent))
    _import_everything()
    # Nothing is loaded before the other process has freed what it had: it says so by the end of this one's input.
    sys.stdin.read()
    Path(reply_file).write_text(json.dumps(answer(json.loads(Path(asked_file).read_text()))))
