"""IFD with a real student: its own greedy answer and two likelihoods of that answer (DESIGN 2.3)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from baldistill.artifacts.ports import ArtifactRef, ArtifactStore, require_manifest
from baldistill.datasets.examples import Example
from baldistill.runtime.own_thread import in_own_thread
from baldistill.specs.frozen import FrozenRun
from services.selector.ports import Score

if TYPE_CHECKING:
    from baldistill.student.decoding import Written
    from baldistill.student.loading import Student
    from baldistill.student.trained import LastStudent


class TorchStudentScorer:
    """The StudentScorer port over torch; the student of the last shard stays loaded. One shard at a time."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._students: LastStudent | None = None
        self._lock = threading.Lock()

    def score(
        self,
        *,
        frozen: FrozenRun,
        student: ArtifactRef,
        examples: Sequence[Example],
        on_scored: Callable[[int], None],
        on_halved: Callable[[int], None] = lambda _rows: None,
    ) -> list[Score]:
        def compute() -> list[Score]:
            # Deferred: torch takes seconds to import, and a run that selects at random never needs it here.
            from baldistill.student.precision import begin_student_compute

            begin_student_compute(threads=frozen.spec.threads)
            loaded = self._load(frozen, student)
            return score_examples(loaded, frozen, examples, on_scored=on_scored, on_halved=on_halved)

        with self._lock:
            return in_own_thread(compute)

    def _load(self, frozen: FrozenRun, student: ArtifactRef) -> Student:
        from baldistill.student.trained import LastStudent

        if self._students is None:
            self._students = LastStudent(self._store)
        return self._students.load(frozen, require_manifest(self._store, student.key))


def score_examples(
    student: Student,
    frozen: FrozenRun,
    examples: Sequence[Example],
    *,
    on_scored: Callable[[int], None],
    on_halved: Callable[[int], None] = lambda _rows: None,
) -> list[Score]:
    """Return the score of each example, in their order. Batches depend on the examples alone (DESIGN 5).

    on_halved: told how many rows did not fit into memory at once.
    """
    import torch

    from baldistill.student.generation import generate_greedily
    from baldistill.student.ifd import instruction_following_difficulty, is_looping
    from baldistill.student.rendering import render_prompt, room_for_generation
    from baldistill.student.scoring import unconditioned_nll

    batch_size = frozen.spec.evaluation.batch_size
    max_new_tokens = frozen.spec.selection.max_new_tokens
    room = room_for_generation(frozen, max_new_tokens=max_new_tokens)
    prompts = [render_prompt(frozen, student.tokenizer, text=one.input, room_for=room)[0] for one in examples]
    written = generate_greedily(
        student,
        prompts,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        cache_mib=frozen.spec.student.cache_mib,
        on_answered=on_scored,
        on_halved=on_halved,
    )
    answered = [at for at, answer in enumerate(written) if answer.token_ids]
    conditioned = _conditioned_nll(
        student, [(prompts[at], written[at]) for at in answered], batch_size=batch_size, on_halved=on_halved
    )
    targets = [written[at].token_ids for at in answered]
    alone = unconditioned_nll(student, targets, batch_size=batch_size, on_halved=on_halved)
    ifd = instruction_following_difficulty(
        torch.tensor(conditioned, dtype=torch.float64), torch.tensor(alone, dtype=torch.float64)
    ).tolist()
    # Of an empty answer nothing can be measured.
    measured = dict(zip(answered, zip(conditioned, alone, ifd, strict=True), strict=True))
    nothing = (None, None, None)
    return [
        Score(
            example_id=one.example_id,
            domain=one.domain,
            conditioned_nll=measured.get(at, nothing)[0],
            unconditioned_nll=measured.get(at, nothing)[1],
            ifd=measured.get(at, nothing)[2],
            generated_tokens=len(written[at].token_ids),
            hit_length_limit=written[at].hit_length_limit,
            looping=is_looping(written[at].token_ids),
        )
        for at, one in enumerate(examples)
    ]


def _conditioned_nll(
    student: Student,
    answers: Sequence[tuple[Sequence[int], Written]],
    *,
    batch_size: int,
    on_halved: Callable[[int], None],
) -> list[float]:
    """Return how likely the student found what it wrote: as it wrote it, or in a pass of its own where that is not known."""
    from baldistill.student.scoring import mean_target_nll

    known = [written.nll for _, written in answers if written.nll is not None]
    if len(known) == len(answers):
        return known
    pairs = [(prompt, written.token_ids) for prompt, written in answers]
    return mean_target_nll(student, pairs, batch_size=batch_size, on_halved=on_halved)
