"""Processes that train one adapter together: each computes a share of every step's rows, and all make the same step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from baldistill.runtime.launching import JobDisrupted


class ReplicaLost(JobDisrupted):
    """Another process of the training is gone; why, it says itself. rank: of the process that noticed."""

    def __init__(self, *, rank: int, reason: str) -> None:
        super().__init__(f"process {rank} of the training lost another one: {reason}")
        self.rank = rank


class Replicas(Protocol):
    """What the processes of one training tell each other. All call the same methods in the same order.

    rank: of this process, 0 to count - 1.   Methods raise ReplicaLost where another process is gone.
    """

    @property
    def rank(self) -> int: ...

    @property
    def count(self) -> int: ...

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums of each value over all processes."""
        ...

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make every gradient the sum of all processes' gradients; a missing one counts as zero."""
        ...


class OneProcess:
    """Trains alone."""

    rank = 0
    count = 1

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the values."""
        return list(values)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Leave the gradients as they are."""


class ProcessGroup:
    """The processes that torchrun started (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), over gloo, on NVIDIA's over nccl."""

    def __init__(self) -> None:
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        self.rank = torch.distributed.get_rank()
        self.count = torch.distributed.get_world_size()

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums in float64."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        summed = torch.tensor(values, dtype=torch.float64, device=device)
        self._add_up(summed)
        return [float(one) for one in summed.tolist()]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum all gradients in one message."""
        own = list(parameters)
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in own]
        message = torch.cat([one.flatten() for one in gradients])
        self._add_up(message)
        for parameter, summed in zip(own, _split(message, gradients), strict=True):
            parameter.grad = summed

    def close(self) -> None:
        """Leave the group; the others must not need this process any more. Idempotent."""
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def _add_up(self, message: Tensor) -> None:
        try:
            torch.distributed.all_reduce(message)
        # gloo's plain RuntimeError, nccl's DistBackendError (a RuntimeError).
        except RuntimeError as error:
            raise ReplicaLost(rank=self.rank, reason=str(error)) from error


def _split(message: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    parts = torch.split(message, [one.numel() for one in like])
    return [part.view_as(one) for part, one in zip(parts, like, strict=True)]
