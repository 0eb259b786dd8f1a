"""The tasks: for each kind its prompts, how an answer is read and compared, and what its labels are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from baldistill.tasks.answers import NO_ANSWER, final_answer, trimmed
from baldistill.tasks.comparison import (
    OpenComparison,
    exact_comparison,
    math_comparison,
    set_comparison,
    words_comparison,
)
from baldistill.tasks.kinds import LabelUse, TaskKind
from baldistill.tasks.label_answers import (
    canonical_label,
    canonical_label_set,
    canonical_letter,
    joined_labels,
    labels_in,
    option_letters,
)
from baldistill.tasks.math_answers import canonical_result, final_result
from baldistill.tasks.templates import TaskTemplates
from baldistill.tasks.wording import ABSTRACTIVE_QA, CLASSIFICATION, MATH, MULTI_LABEL, MULTIPLE_CHOICE


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One kind of task. All but `open_comparison` are pure.

    find: the final answer in a whole text, None where it has none.   canonical: that answer as it is compared and stored,
    `<none>` where it is none; given the labels of the data set.
    """

    kind: TaskKind
    templates: TaskTemplates
    label_use: LabelUse
    find: Callable[[str], str | None]
    canonical: Callable[[str, Sequence[str]], str]
    open_comparison: OpenComparison

    def read(self, text: str, labels: Sequence[str]) -> str:
        """Return the final answer of a whole text in its canonical form, `<none>` where it has none."""
        found = self.find(text)
        return NO_ANSWER if found is None else self.canonical(found, labels)

    def labels_of(self, answer: str) -> frozenset[str]:
        """Return the labels that a true answer holds; none where the task has no labels."""
        if self.label_use is LabelUse.NONE:
            return frozenset()
        return labels_in(answer) if self.label_use is LabelUse.PARTS else frozenset({answer})

    def required_of(self, answers: Collection[str]) -> str | None:
        """Return the labels that all answers of a domain share: what an invented example of it must have. None: nothing.

        Letters tell where an option stands, so they require nothing, as free text does.
        """
        if self.label_use not in {LabelUse.ANSWERS, LabelUse.PARTS} or not answers:
            return None
        shared = frozenset.intersection(*map(self.labels_of, answers))
        return joined_labels(shared) if shared else None

    def fits(self, answer: str, *, required: str | None, question: str) -> bool:
        """Tell whether an invented example is well formed: it has an answer, what is required, and the option it names."""
        if answer == NO_ANSWER:
            return False
        if self.label_use is LabelUse.LETTERS:
            return answer in option_letters(question)
        return required is None or self.labels_of(required) <= self.labels_of(answer)


def task_of(kind: TaskKind) -> Task:
    """Return what is known of a kind of task."""
    return _TASKS[kind]


def _canonical_result(answer: str, _labels: Sequence[str]) -> str:
    return canonical_result(answer)


def _canonical_words(answer: str, _labels: Sequence[str]) -> str:
    return trimmed(answer) or NO_ANSWER


_TASKS: Mapping[TaskKind, Task] = {
    task.kind: task
    for task in (
        Task(
            kind=TaskKind.CLASSIFICATION,
            templates=CLASSIFICATION,
            label_use=LabelUse.ANSWERS,
            find=final_answer,
            canonical=canonical_label,
            open_comparison=exact_comparison,
        ),
        Task(
            kind=TaskKind.MULTI_LABEL,
            templates=MULTI_LABEL,
            label_use=LabelUse.PARTS,
            find=final_answer,
            canonical=canonical_label_set,
            open_comparison=set_comparison,
        ),
        Task(
            kind=TaskKind.MULTIPLE_CHOICE,
            templates=MULTIPLE_CHOICE,
            label_use=LabelUse.LETTERS,
            find=final_answer,
            canonical=canonical_letter,
            open_comparison=exact_comparison,
        ),
        Task(
            kind=TaskKind.MATH,
            templates=MATH,
            label_use=LabelUse.NONE,
            find=final_result,
            canonical=_canonical_result,
            open_comparison=math_comparison,
        ),
        Task(
            kind=TaskKind.ABSTRACTIVE_QA,
            templates=ABSTRACTIVE_QA,
            label_use=LabelUse.NONE,
            find=final_answer,
            canonical=_canonical_words,
            open_comparison=words_comparison,
        ),
    )
}
