"""What every classification table is read against: the majority label, and TF-IDF with logistic regression (DESIGN 2.7).

Both learn from the very rows that the student was trained on and answer the very items that it was asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from baldistill.datasets.examples import Example
from services.trainer.evaluation.classification import GradedAnswer, classification_report
from services.trainer.evaluation.reports import ClassificationReport

MAJORITY = "majority"
TFIDF_LOGISTIC_REGRESSION = "tfidf_logistic_regression"

# Words of one letter count too: an input may be a formula.
_WORD = r"(?u)\b\w+\b"


def reference_reports(
    *,
    inputs: Sequence[str],
    answers: Sequence[str],
    items: Sequence[Example],
    labels: Collection[str],
    pool_sizes: Mapping[str, int],
    budget: int,
) -> dict[str, ClassificationReport]:
    """Return the reports of both reference rows, by name.

    inputs, answers: the training rows, one for one, at least one.   items: the test items.   The rest as for
    `classification_report`.   Raises ValueError without a training row.
    """
    predictions = {
        MAJORITY: [majority_answer(answers)] * len(items),
        TFIDF_LOGISTIC_REGRESSION: tfidf_logistic_regression(
            inputs=inputs, answers=answers, questions=[item.input for item in items]
        ),
    }
    return {
        name: classification_report(
            [
                GradedAnswer(example_id=item.example_id, domain=item.domain, truth=item.answer, prediction=prediction)
                for item, prediction in zip(items, predicted, strict=True)
            ],
            labels=labels,
            pool_sizes=pool_sizes,
            budget=budget,
        )
        for name, predicted in predictions.items()
    }


def majority_answer(answers: Sequence[str]) -> str:
    """Return the most frequent answer, of equally frequent ones the first in sorted order. Raises ValueError if empty."""
    counts = Counter(answers)
    if not counts:
        raise ValueError("no training rows")
    return min(counts, key=lambda answer: (-counts[answer], answer))


def tfidf_logistic_regression(*, inputs: Sequence[str], answers: Sequence[str], questions: Sequence[str]) -> list[str]:
    """Return the answers of a logistic regression over TF-IDF of words, classes weighted equally.

    Deterministic. Rows with a single answer or without any word leave nothing to learn: the majority answers.
    """
    majority = majority_answer(answers)
    if len(set(answers)) == 1 or not any(re.search(_WORD, text) for text in inputs):
        return [majority] * len(questions)
    if not questions:
        return []
    # Deferred: it takes a second, which `baldistill --help` should not.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=_WORD)
    # C = 10 and equal weights: the strongest macro-F1 of the usual settings on trec50 and r8, balanced rows and random ones.
    classifier = LogisticRegression(C=10.0, class_weight="balanced", max_iter=2000)
    classifier.fit(vectorizer.fit_transform(inputs), answers)
    return [str(answer) for answer in classifier.predict(vectorizer.transform(questions))]
