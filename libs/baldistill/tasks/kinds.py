"""The kinds of task that a run can have."""

from __future__ import annotations

from enum import Enum


class TaskKind(Enum):
    """What an answer is. docs/reference/tasks.md tells each kind's data, prompts and metric."""

    CLASSIFICATION = "classification"
    MULTI_LABEL = "multi_label"
    MULTIPLE_CHOICE = "multiple_choice"
    MATH = "math"
    ABSTRACTIVE_QA = "abstractive_qa"


class LabelUse(Enum):
    """What of a data set's answers is a label.

    NONE: free text. ANSWERS: each answer is one. PARTS: each answer lists some. LETTERS: each answer is an option's letter.
    """

    NONE = "none"
    ANSWERS = "answers"
    PARTS = "parts"
    LETTERS = "letters"
