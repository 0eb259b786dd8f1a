"""Single labels: F1 of each label over the whole test set, where domains are labels (DESIGN 2.7). Pure.

scikit-learn's `f1_score(average="micro", labels=...)` ignores answers outside the label set, so that a student that
answers nothing where it is unsure looks better than it is; here they are wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from services.trainer.evaluation.graded import GradedAnswer, Tally, is_at_chance_one_vs_rest


def one_vs_rest_tallies(answers: Sequence[GradedAnswer]) -> Mapping[str, Tally]:
    """Return F1 of "is it this label?" by label. Micro is the accuracy over items, as it is for single labels."""
    truths = Counter(answer.truth for answer in answers)
    predicted = Counter(answer.prediction for answer in answers)
    right = Counter(answer.truth for answer in answers if answer.is_correct)
    tallies = {}
    for label, items in truths.items():
        correct = right[label]
        false_alarms = predicted[label] - correct
        missed = items - correct
        tallies[label] = Tally(
            items=items,
            correct=correct,
            score=2 * correct / (2 * correct + false_alarms + missed),
            at_chance=is_at_chance_one_vs_rest(wrong=missed + false_alarms, positives=items, items=len(answers)),
            gained=correct,
            possible=items,
        )
    return tallies
