"""Likelihood of given targets: mean NLL per target token, with logits for target positions only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from baldistill.student.batching import length_ordered_batches, padded_right
from baldistill.student.loading import Student

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Prompt and target, in token ids. The prompt has at least one token.
PromptAndTarget = tuple[Sequence[int], Sequence[int]]


@torch.inference_mode()
def mean_target_nll(student: Student, pairs: Sequence[PromptAndTarget], *, batch_size: int) -> list[float]:
    """Return the mean negative log-likelihood of each target given its prompt, in nats per target token.

    Raises: ValueError for an empty prompt or target.
    """
    if any(not prompt or not target for prompt, target in pairs):
        raise ValueError("a likelihood needs at least one token of prompt and one of target")
    means: dict[int, float] = {}
    for batch in length_ordered_batches([len(p) + len(t) for p, t in pairs], batch_size=batch_size):
        of_batch = [pairs[item] for item in batch]
        nll = target_token_nll(student.model, of_batch, device=student.device)
        sizes = [len(target) for _, target in of_batch]
        for item, own in zip(batch, torch.split(nll, sizes), strict=True):
            means[item] = float(own.double().mean())
    return [means[item] for item in range(len(pairs))]


def unconditioned_nll(student: Student, targets: Sequence[Sequence[int]], *, batch_size: int) -> list[float]:
    """Return each target's mean NLL without its prompt, in nats per token (DESIGN 2.3)."""
    prefix = [student.unconditioned_prefix_id]
    return mean_target_nll(student, [(prefix, target) for target in targets], batch_size=batch_size)


def target_token_nll(model: PreTrainedModel, pairs: Sequence[PromptAndTarget], *, device: torch.device) -> Tensor:
    """Return the NLL of every target token, row after row, shape (sum of target lengths,), float32, with gradient.

    Rows are padded on the right and need no attention mask: causal attention never looks to the right.
    """
    ids = padded_right([[*prompt, *target] for prompt, target in pairs], device=device)
    # The position before a token predicts it.
    row = [at for at, (_, target) in enumerate(pairs) for _ in target]
    position = [len(prompt) - 1 + step for prompt, target in pairs for step in range(len(target))]
    wanted = torch.tensor([token for _, target in pairs for token in target], device=device)
    flat = torch.tensor(row, device=device) * ids.shape[1] + torch.tensor(position, device=device)
    with _logits_only_at(model, flat):
        logits = model(input_ids=ids, use_cache=False).logits
    return nn.functional.cross_entropy(logits[0].float(), wanted, reduction="none")


@contextlib.contextmanager
def _logits_only_at(model: PreTrainedModel, flat_positions: Tensor) -> Iterator[None]:
    """Let the model's head see only some positions (row * length + position); its logits get shape (1, n, vocabulary).

    `logits_to_keep` keeps the same positions of all rows; targets lie elsewhere in each. What a model does to its
    logits afterwards (soft caps, scales) still happens.
    """

    def gather(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden: Tensor = arguments[0]
        return (hidden.flatten(0, 1).index_select(0, flat_positions)[None], *arguments[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()
