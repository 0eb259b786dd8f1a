"""The labels of a run: what counts as an answer, looked up in the data once and checked before anything is spent."""

from __future__ import annotations

import re
from collections.abc import Callable

from baldistill.artifacts.ports import ArtifactRef, ArtifactStore
from baldistill.datasets.answer_values import distinct_answers, id_of_first
from baldistill.datasets.examples import Dataset
from baldistill.datasets.summary import MOST_LABELS
from baldistill.errors import InvalidInput
from baldistill.tasks.answers import NO_ANSWER
from baldistill.tasks.kinds import LabelUse
from baldistill.tasks.registry import Task

# More labels than this make a student's prompt longer than its question.
LABELS_SHOWN_AT_MOST = 16

_LETTER = re.compile("[A-Z]")


def labels_of_run(task: Task, dataset: Dataset, *, store: ArtifactStore) -> tuple[str, ...]:
    """Return a run's labels in sorted order; none where its answers are free text.

    Raises InvalidInput: too many labels, an answer that is no option's letter, a test item with a label that no item of
    the pool has, which no student can learn.
    """
    if task.label_use is LabelUse.NONE:
        return ()

    def refuse(split: str, ref: ArtifactRef, answer: str, reason: str) -> InvalidInput:
        item = id_of_first(store, ref, answer=answer)
        return InvalidInput(
            f"data set {dataset.name}, {split} item '{item}', answer '{_shown(answer)}': {reason}", field="task.kind"
        )

    in_pool = _labels(task, store, dataset.pool, refuse=lambda *about: refuse("pool", dataset.pool, *about))
    if task.label_use is LabelUse.LETTERS:
        in_test = _labels(task, store, dataset.test, refuse=lambda *about: refuse("test", dataset.test, *about))
        return tuple(sorted(in_pool | in_test))
    for answer in distinct_answers(store, dataset.test):
        for label in sorted(task.labels_of(answer) - in_pool):
            reason = (
                f"no item of the pool has the label '{_shown(label)}'; leave it out, or add such an item to the pool"
            )
            raise refuse("test", dataset.test, answer, reason)
    return tuple(sorted(in_pool))


def shows_labels(task: Task, labels: tuple[str, ...], *, list_labels: str) -> bool:
    """Tell whether the student's prompt lists the labels. list_labels: `auto`, `yes` or `no`."""
    if task.label_use not in {LabelUse.ANSWERS, LabelUse.PARTS}:
        return False
    return len(labels) <= LABELS_SHOWN_AT_MOST if list_labels == "auto" else list_labels == "yes"


def _labels(
    task: Task, store: ArtifactStore, ref: ArtifactRef, *, refuse: Callable[[str, str], InvalidInput]
) -> frozenset[str]:
    labels: set[str] = set()
    for answer in distinct_answers(store, ref):
        found = task.labels_of(answer)
        if task.label_use is LabelUse.LETTERS and not _LETTER.fullmatch(answer):
            raise refuse(answer, "is no option's letter (A, B, ...)")
        if not found or NO_ANSWER in found:
            raise refuse(answer, "names no label")
        labels |= found
        if len(labels) > MOST_LABELS:
            raise InvalidInput(
                f"the data set has more than {MOST_LABELS:,} distinct labels: not a {task.kind.value} task",
                field="task.kind",
            )
    return frozenset(labels)


def _shown(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
