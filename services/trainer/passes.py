"""A step's rows through the model, forwards and backwards, as many at once as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
import torch

from baldistill.student.rendering import RenderedExample
from baldistill.student.target_loss import TargetLoss
from services.trainer.errors import RowTooLarge

# Where rows are padded, at least this share of a pass is text. News articles shuffled into passes of 16 were three
# quarters padding, which costs as much as text does.
_LEAST_FILLED = 0.75

_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class StepPasses:
    """Adds the gradients of a step's rows. rows_at_once: at most, in one pass; halved when memory does not suffice."""

    loss: TargetLoss
    rendered: Sequence[RenderedExample]
    rows_at_once: int

    def run(self, rows: Sequence[int], *, tokens: int, begin: Callable[[], None]) -> dict[int, float]:
        """Return each row's summed NLL in nats; gradients are of the sum over rows divided by `tokens`.

        begin: clears gradients and sets dropout's generator; called again where the step begins anew.
        Raises RowTooLarge where memory does not suffice for a single row.
        """
        while True:
            begin()
            try:
                return self._run(rows, tokens=tokens)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.rows_at_once == 1:
                    longest = max(self.rendered[row].length for row in rows)
                    raise RowTooLarge(tokens=longest) from error
            self.rows_at_once = -(-self.rows_at_once // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            _log.warning("out of memory: fewer rows at once from now on", rows_at_once=self.rows_at_once)

    def _run(self, rows: Sequence[int], *, tokens: int) -> dict[int, float]:
        nll: dict[int, float] = {}
        least_filled = _LEAST_FILLED if self.loss.pads else 0.0
        lengths = {row: self.rendered[row].length for row in rows}
        for together in passes_of(lengths, size=self.rows_at_once, least_filled=least_filled):
            pairs = [(self.rendered[row].prompt_ids, self.rendered[row].target_ids) for row in together]
            of_tokens = self.loss.target_token_nll(pairs)
            torch.autograd.backward([of_tokens.sum() / tokens])
            parts = torch.split(of_tokens.detach(), [len(target) for _, target in pairs])
            nll |= {row: float(part.double().sum()) for row, part in zip(together, parts, strict=True)}
        return nll


def passes_of(lengths: dict[int, int], *, size: int, least_filled: float) -> list[list[int]]:
    """Cut rows (length by number) into passes of at most `size`, longest first, each at least that full if padded."""
    passes: list[list[int]] = []
    for row in sorted(lengths, key=lambda row: (-lengths[row], row)):
        if passes and len(passes[-1]) < size and lengths[row] >= least_filled * lengths[passes[-1][0]]:
            passes[-1].append(row)
        else:
            passes.append([row])
    return passes


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error says that memory did not suffice; on the CPU torch raises a plain RuntimeError."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
