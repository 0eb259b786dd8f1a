"""Answers that name labels: one, several, or the letter of an option. Pure.

What names no label is `<none>`. A label inside a longer answer is not a match: "billing or login" decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from baldistill.tasks.answers import NO_ANSWER, trimmed
from baldistill.tasks.math_answers import unboxed

# How a data set and a target write a set of labels: sorted, joined by this (docs/reference/data-formats.md).
LABEL_SEPARATOR = "; "

_LETTER_ALONE = re.compile(r"(?:option|choice|answer)?[\s:(\[]*([a-z])[\s)\].:]*", re.IGNORECASE)
_LETTER_WITH_TEXT = re.compile(r"(?:option|choice|answer)?[\s:(\[]*([a-z])\s?[)\].:]\s*\S.*", re.IGNORECASE | re.DOTALL)
_OPTION_LINE = re.compile(r"^[ \t(]*([A-Z])[).:][ \t]*\S", re.MULTILINE)


def canonical_label(answer: str, labels: Sequence[str]) -> str:
    """Return the label that an answer names: exactly, else without regard to case, marks around it and spaces."""
    plain = answer.strip()
    if plain in labels:
        return plain
    folded = trimmed(answer).casefold()
    return next((label for label in labels if trimmed(label).casefold() == folded), NO_ANSWER)


def labels_in(answer: str) -> frozenset[str]:
    """Return the parts of a list of labels. `<none>` is a part like any other: of no label, so it is wrong."""
    return frozenset(part for piece in answer.split(";") if (part := piece.strip()))


def joined_labels(parts: Collection[str]) -> str:
    """Return labels as a data set writes them: each once, sorted, joined by `; `."""
    return LABEL_SEPARATOR.join(sorted(set(parts)))


def canonical_label_set(answer: str, labels: Sequence[str]) -> str:
    """Return the labels that an answer lists, sorted and joined by `; `; `<none>` where not one is known.

    Semicolons and line breaks separate, commas where the whole is no label. Beside a known label, what is unknown is kept,
    as it was written in lower case: each such part is a false alarm (services.trainer.evaluation.set_scores).
    """
    parts: set[str] = set()
    for piece in re.split(r"[;\n]", answer.strip("[](){} \t\r\n")):
        whole = canonical_label(piece, labels)
        candidates = piece.split(",") if whole == NO_ANSWER else [piece]
        parts.update(_label_or_text(one, labels) for one in candidates if trimmed(one))
    return joined_labels(parts) if parts & set(labels) else NO_ANSWER


def canonical_letter(answer: str, labels: Sequence[str]) -> str:
    """Return the option that an answer names: `B`, `(b)`, `B.`, `option B`, `B) its text`; not `A dog`, not `A or B`."""
    plain = unboxed(answer).strip(" \t\r\n*_`'\"“”$")
    match = _LETTER_ALONE.fullmatch(plain) or _LETTER_WITH_TEXT.fullmatch(plain)
    letter = match.group(1).upper() if match else NO_ANSWER
    return letter if letter in labels else NO_ANSWER


def option_letters(question: str) -> list[str]:
    """Return the letters of the options that stand in a question, each on a line of its own: `A. ...`, `(B) ...`."""
    return _OPTION_LINE.findall(question)


def _label_or_text(part: str, labels: Sequence[str]) -> str:
    label = canonical_label(part, labels)
    return trimmed(part).casefold() if label == NO_ANSWER else label
