"""What training finds out: verdicts on its data, so that the stage fails for good, and what may pass."""

from __future__ import annotations

from collections.abc import Sequence

from baldistill.errors import RetryableError
from baldistill.runtime.launching import VerdictOnData


class NoTrainingRows(VerdictOnData):
    """Not one answer of the teacher was accepted."""

    def __init__(self, *, stage: int) -> None:
        super().__init__(
            f"stage {stage} has no row to train on: the teacher's answers were all rejected or missing;"
            " see the reasons in the run's report"
        )
        self.stage = stage


class RowTooLarge(VerdictOnData):
    """Memory does not suffice for one row at a time."""

    def __init__(self, *, tokens: int) -> None:
        super().__init__(
            f"memory does not suffice for one row of {tokens} tokens; lower student.training.max_tokens, or give it more"
        )
        self.tokens = tokens


class TrainingDiverged(VerdictOnData):
    """The loss is not a number any more. row_ids: of the rows whose loss is not, else of the whole step."""

    def __init__(self, *, step: int, row_ids: Sequence[str]) -> None:
        super().__init__(
            f"the loss of step {step} is not finite (rows {', '.join(row_ids)}); lower student.training.learning_rate"
        )
        self.step = step
        self.row_ids = tuple(row_ids)


class ReplicasDisagree(RetryableError):
    """Of several processes of one training, one read an older checkpoint than another. Nothing was trained."""

    def __init__(self, *, step: int, rank: int) -> None:
        super().__init__(f"process {rank} of the training would go on from step {step}, another from another one")
        self.step = step
        self.rank = rank
