"""Likelihood of given targets: mean NLL per target token, with logits for target positions only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from baldistill.student.batching import (
    LEAST_FILLED,
    LOGITS_AT_ONCE,
    TOKENS_PER_READ,
    evenly_long_batches,
    length_ordered_batches,
    longest_first,
    padded_right,
)
from baldistill.student.decoder import Decoder
from baldistill.student.key_value_cache import attention
from baldistill.student.loading import Student
from baldistill.student.memory import halving_when_short, ignore_halving

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Prompt and target, in token ids. The prompt has at least one token.
PromptAndTarget = tuple[Sequence[int], Sequence[int]]


@torch.inference_mode()
def mean_target_nll(
    student: Student,
    pairs: Sequence[PromptAndTarget],
    *,
    batch_size: int,
    on_halved: Callable[[int], None] = ignore_halving,
) -> list[float]:
    """Return the mean negative log-likelihood of each target given its prompt, in nats per target token.

    on_halved: told how many pairs did not fit into memory; they are done in two halves.
    Raises: ValueError for an empty prompt or target.
    """
    if any(not prompt or not target for prompt, target in pairs):
        raise ValueError("a likelihood needs at least one token of prompt and one of target")

    def nll_of(batch: Sequence[int]) -> Tensor:
        of_batch = [pairs[item] for item in batch]
        if student.decoder is not None:
            return decoder_target_nll(student.decoder, of_batch, device=student.device)
        return target_token_nll(student.model, of_batch, device=student.device)

    means: dict[int, float] = {}
    lengths = [len(prompt) + len(target) for prompt, target in pairs]
    for batch in _batches(student, lengths, batch_size=batch_size):
        for part, nll in halving_when_short(batch, nll_of, on_halved=on_halved):
            sizes = [len(pairs[item][1]) for item in part]
            for item, own in zip(part, torch.split(nll, sizes), strict=True):
                means[item] = float(own.double().mean())
    return [means[item] for item in range(len(pairs))]


def _batches(student: Student, lengths: Sequence[int], *, batch_size: int) -> list[list[int]]:
    if student.decoder is None:
        return length_ordered_batches(lengths, batch_size=batch_size)
    order = longest_first(lengths)
    pieces = evenly_long_batches(
        [lengths[item] for item in order], max_tokens=TOKENS_PER_READ, least_filled=LEAST_FILLED
    )
    return [order[piece.start : piece.stop] for piece in pieces]


def unconditioned_nll(
    student: Student,
    targets: Sequence[Sequence[int]],
    *,
    batch_size: int,
    on_halved: Callable[[int], None] = ignore_halving,
) -> list[float]:
    """Return each target's mean NLL without its prompt, in nats per token (DESIGN 2.3)."""
    prefix = [student.unconditioned_prefix_id]
    pairs = [(prefix, target) for target in targets]
    return mean_target_nll(student, pairs, batch_size=batch_size, on_halved=on_halved)


def decoder_target_nll(decoder: Decoder, pairs: Sequence[PromptAndTarget], *, device: torch.device) -> Tensor:
    """Return what `target_token_nll` does, by the decoder of this package; logits of some positions at a time."""
    # The last token predicts nothing.
    ids = padded_right([[*prompt, *target][:-1] for prompt, target in pairs], device=device)
    positions = torch.arange(ids.shape[1], device=device).expand(ids.shape)
    scale = decoder.weights.scale

    def attend(_layer: int, query: Tensor, key_value: Tensor) -> Tensor:
        return attention(query, key_value, scale=scale)

    flat, wanted = _predicted(pairs, width=ids.shape[1], device=device)
    hidden = decoder.hidden(ids, positions, attend).flatten(0, 1)[flat]
    return torch.cat(
        [
            nn.functional.cross_entropy(decoder.logits(own), targets, reduction="none")
            for own, targets in zip(
                torch.split(hidden, LOGITS_AT_ONCE), torch.split(wanted, LOGITS_AT_ONCE), strict=True
            )
        ]
    )


def _predicted(pairs: Sequence[PromptAndTarget], *, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where targets are predicted, as row * width + position, and the targets."""
    # The position before a token predicts it.
    row = [at for at, (_, target) in enumerate(pairs) for _ in target]
    position = [len(prompt) - 1 + step for prompt, target in pairs for step in range(len(target))]
    wanted = torch.tensor([token for _, target in pairs for token in target], device=device)
    return torch.tensor(row, device=device) * width + torch.tensor(position, device=device), wanted


def target_token_nll(model: PreTrainedModel, pairs: Sequence[PromptAndTarget], *, device: torch.device) -> Tensor:
    """Return the NLL of every target token, row after row, shape (sum of target lengths,), float32, with gradient.

    Rows are padded on the right and need no attention mask: causal attention never looks to the right.
    """
    ids = padded_right([[*prompt, *target] for prompt, target in pairs], device=device)
    flat, wanted = _predicted(pairs, width=ids.shape[1], device=device)
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
