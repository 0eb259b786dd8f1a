"""The loss that training lowers, behind one port: packed where we compute the model ourselves, else Hugging Face's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from baldistill.student.packed.llama import PackedLlama, supports
from baldistill.student.scoring import PromptAndTarget, target_token_nll

if TYPE_CHECKING:
    from peft import PeftModel


class TargetLoss(Protocol):
    """The NLL of targets under a model with an adapter; both implementations agree up to rounding."""

    @property
    def pads(self) -> bool:
        """Whether rows of unequal length cost what the longest costs."""
        ...

    def target_token_nll(self, pairs: Sequence[PromptAndTarget]) -> Tensor:
        """Return the NLL of every target token, row after row, shape (target tokens,), float32, with gradient."""
        ...


class PaddedLoss:
    """Any causal language model of transformers, rows padded on the right."""

    pads = True

    def __init__(self, adapted: PeftModel, *, device: torch.device) -> None:
        self._adapted = adapted
        self._device = device

    def target_token_nll(self, pairs: Sequence[PromptAndTarget]) -> Tensor:
        """Run the rows as one padded batch."""
        return target_token_nll(self._adapted, pairs, device=self._device)


def target_loss(adapted: PeftModel, *, device: torch.device) -> TargetLoss:
    """Return the fastest loss that knows this model."""
    return PackedLlama(adapted) if supports(adapted) else PaddedLoss(adapted, device=device)
