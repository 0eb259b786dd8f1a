"""The loss of target tokens, with the logits of only some of them in memory at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Logits of a vocabulary of 50,000: 50 MiB in float32.
_TOKENS_AT_ONCE = 256


class TokenNll(torch.autograd.Function):
    """-log p(wanted) of each token: hidden (n, hidden) and the frozen head (vocabulary, hidden) -> (n,), float32.

    A token's loss depends on its own hidden state alone, so its gradient is made together with it, while its logits are
    there.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, wanted: Tensor) -> Tensor:
        """Compare logits with what is wanted, shape (n,)."""
        nll = torch.empty(len(wanted), device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        totals = torch.empty(len(wanted), 1, device=hidden.device)
        for start in range(0, len(wanted), _TOKENS_AT_ONCE):
            some = slice(start, start + _TOKENS_AT_ONCE)
            logits = torch.mm(hidden[some], head.t()).float()
            own = wanted[some, None]
            # In place from here on: the logits of many tokens are the largest tensor of a step.
            below_peak = logits.sub_(logits.amax(dim=-1, keepdim=True))
            of_wanted = below_peak.gather(1, own)
            shares = below_peak.exp_()
            total = totals[some] = shares.sum(dim=-1, keepdim=True)
            nll[some] = (total.log() - of_wanted)[:, 0]
            if gradient is not None:
                # Before it is rounded: of a token that is nearly certain hardly anything is left.
                shares.scatter_add_(1, own, -total)
                gradient[some] = torch.mm(shares.to(hidden.dtype), head)
        ctx.save_for_backward(gradient, totals)
        return nll

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what each token gives by what its loss counts; its shares were not divided by their total yet."""
        gradient, totals = ctx.saved_tensors
        return gradient * (gradients[0][:, None] / totals).to(gradient.dtype), None, None
