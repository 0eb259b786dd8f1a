"""Whether a final answer is right: each task's own comparison with the answers that are accepted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from baldistill.tasks.answers import NO_ANSWER
from baldistill.tasks.equivalence import ComparisonTimedOut, MathWorker
from baldistill.tasks.label_answers import labels_in
from baldistill.tasks.math_answers import canonical_result, is_words, same_spelling, without_unit
from baldistill.tasks.word_f1 import normalised, word_f1


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """What an answer is worth. credit: 0 to 1, what a mean over items counts.   is_correct: right, nothing missing.

    timed_out: it could not be compared within the limit, and so is wrong.
    """

    credit: float
    is_correct: bool
    timed_out: bool = False


WRONG = Grade(credit=0.0, is_correct=False)
RIGHT = Grade(credit=1.0, is_correct=True)
TIMED_OUT = Grade(credit=0.0, is_correct=False, timed_out=True)


class Comparison(Protocol):
    """Grades a final answer, as its task reads it, against all accepted answers (at least one). May be slow: math."""

    def __call__(self, answer: str, accepted: Sequence[str]) -> Grade: ...


# Opens a comparison for as long as answers are being graded. timeout_s: of one comparison, where it can take long.
OpenComparison = Callable[[float], AbstractContextManager[Comparison]]


def exact_comparison(_timeout_s: float) -> AbstractContextManager[Comparison]:
    """An answer is right where it is an accepted one, letter by letter."""
    return nullcontext(same_text)


def set_comparison(_timeout_s: float) -> AbstractContextManager[Comparison]:
    """A list of labels is right where it is the same set; its credit is the F1 of the two sets."""
    return nullcontext(same_set)


def words_comparison(_timeout_s: float) -> AbstractContextManager[Comparison]:
    """Word F1, best over the accepted answers; right where the normalised texts are equal (tasks.word_f1)."""
    return nullcontext(best_word_f1)


class math_comparison(AbstractContextManager[Comparison]):  # noqa: N801  (called like the functions beside it)
    """A result is right where it equals an accepted one mathematically; a worker process is asked where spelling differs."""

    def __init__(self, timeout_s: float) -> None:
        self._worker = MathWorker(timeout_s=timeout_s)

    def __enter__(self) -> Comparison:
        return self._compare

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def _compare(self, answer: str, accepted: Sequence[str]) -> Grade:
        if answer == NO_ANSWER:
            return WRONG
        timed_out = False
        for truth in accepted:
            try:
                if self._are_equal(truth, answer):
                    return RIGHT
            except ComparisonTimedOut:
                timed_out = True
        return TIMED_OUT if timed_out else WRONG

    def _are_equal(self, truth: str, answer: str) -> bool:
        if same_spelling(truth) == same_spelling(answer):
            return True
        if is_words(truth):
            return same_spelling(truth).casefold() == same_spelling(answer).casefold()
        return self._worker.are_equal(without_unit(canonical_result(truth)), without_unit(canonical_result(answer)))


def same_text(answer: str, accepted: Sequence[str]) -> Grade:
    """Right where the answer is an accepted one, letter by letter."""
    return RIGHT if answer in accepted else WRONG


def same_set(answer: str, accepted: Sequence[str]) -> Grade:
    """Right where the answer lists the labels of an accepted one and no others; its credit is the F1 of the two sets."""
    ours = labels_in(answer)
    shares = [2 * len(ours & theirs) / (len(ours) + len(theirs)) for theirs in map(labels_in, accepted)]
    return Grade(credit=max(shares), is_correct=max(shares) == 1.0)


def spelled_alike(answer: str, accepted: Sequence[str]) -> Grade:
    """Right where a result is spelled as an accepted one: what can be told of math without a worker process."""
    return RIGHT if any(same_spelling(answer) == same_spelling(one) for one in accepted) else WRONG


def best_word_f1(answer: str, accepted: Sequence[str]) -> Grade:
    """Word F1, best over the accepted answers; right where the normalised texts are equal."""
    if answer == NO_ANSWER:
        # Its normal form would be the word "none".
        return WRONG
    is_correct = any(normalised(answer) == normalised(one) for one in accepted)
    return Grade(credit=max(word_f1(answer, one) for one in accepted), is_correct=is_correct)
