"""Documents with sets of labels: F1 of each label, and of all labels together (DESIGN 2.7, metric `set`). Pure.

A part of an answer that is no label is a false alarm of no label: it lowers micro and no label's own F1. So is an
answer without any label, `<none>`. With one label a document, micro is then the accuracy exactly.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from baldistill.tasks.label_answers import labels_in
from services.trainer.evaluation.graded import (
    GradedAnswer,
    Tally,
    is_at_chance,
    is_at_chance_one_vs_rest,
    majority_answer,
)


def domains_are_labels(answers: Sequence[GradedAnswer]) -> bool:
    """Tell whether every document's domain is one of its own labels, as a Reuters document's rarest topic is."""
    return all(answer.domain in labels_in(answer.truth) for answer in answers)


def label_set_tallies(answers: Sequence[GradedAnswer]) -> Mapping[str, Tally]:
    """Return F1 by label over all documents, for every label that a test document carries."""
    carried: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for answer in answers:
        truth, prediction = labels_in(answer.truth), labels_in(answer.prediction)
        carried.update(truth)
        predicted.update(prediction)
        right.update(truth & prediction)
    return {
        label: Tally(
            items=items,
            correct=right[label],
            score=2 * right[label] / (items + predicted[label]),
            at_chance=is_at_chance_one_vs_rest(
                wrong=items + predicted[label] - 2 * right[label], positives=items, items=len(answers)
            ),
            gained=2 * right[label],
            possible=items + predicted[label],
        )
        for label, items in carried.items()
    }


def document_set_tallies(answers: Sequence[GradedAnswer]) -> Mapping[str, Tally]:
    """Return F1 over all labels of a domain's documents, where domains are something else than labels."""
    by_domain: dict[str, list[GradedAnswer]] = defaultdict(list)
    for answer in answers:
        by_domain[answer.domain].append(answer)
    return {name: _of_documents(items) for name, items in by_domain.items()}


def set_micro(answers: Sequence[GradedAnswer]) -> float | None:
    """Return the F1 of all labels of all documents, each (document, label) counted once. None without a document."""
    gained, possible = _shared_and_all(answers)
    return gained / possible if possible else None


def _of_documents(items: Sequence[GradedAnswer]) -> Tally:
    gained, possible = _shared_and_all(items)
    correct = sum(item.is_correct for item in items)
    majority = labels_in(majority_answer([item.truth for item in items]))
    baseline = [float(labels_in(item.truth) == majority) for item in items]
    return Tally(
        items=len(items),
        correct=correct,
        score=gained / possible,
        at_chance=is_at_chance(correct / len(items), baseline=baseline),
        gained=gained,
        possible=possible,
    )


def _shared_and_all(answers: Sequence[GradedAnswer]) -> tuple[int, int]:
    pairs = [(labels_in(answer.truth), labels_in(answer.prediction)) for answer in answers]
    shared = sum(len(truth & prediction) for truth, prediction in pairs)
    return 2 * shared, sum(len(truth) + len(prediction) for truth, prediction in pairs)
