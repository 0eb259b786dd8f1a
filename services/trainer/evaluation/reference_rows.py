"""What every table is read against: the majority answer and, where words can tell labels, TF-IDF with logistic regression.

Both learn from the very rows that the student was trained on and answer the very items that it was asked (DESIGN 2.7).
Multiple choice, math and abstractive QA have the majority answer only: a letter says where an option stands, and results
and short answers are no classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from baldistill.datasets.examples import Example
from baldistill.tasks.kinds import TaskKind
from baldistill.tasks.label_answers import joined_labels, labels_in
from services.trainer.evaluation.graded import graded, majority_answer
from services.trainer.evaluation.reports import Ceiling, EvaluationReport
from services.trainer.evaluation.scoring import compare_of, evaluation_report

MAJORITY = "majority"
TFIDF_LOGISTIC_REGRESSION = "tfidf_logistic_regression"

# Words of one letter count too: an input may be a formula.
_WORD = r"(?u)\b\w+\b"


def reference_reports(
    *,
    kind: TaskKind,
    inputs: Sequence[str],
    answers: Sequence[str],
    items: Sequence[Example],
    pool_sizes: Mapping[str, int],
    budget: int,
    aliases: Mapping[str, Sequence[str]] | None = None,
    ceiling: Ceiling | None = None,
) -> dict[str, EvaluationReport]:
    """Return the reports of the reference rows, by name.

    inputs, answers: the training rows, one for one, at least one.   items: the test items.
    The rest as for `evaluation_report`.   Raises ValueError without a training row.
    """
    questions = [item.input for item in items]
    predictions = {MAJORITY: [majority_answer(answers)] * len(items)}
    if kind is TaskKind.CLASSIFICATION:
        predictions[TFIDF_LOGISTIC_REGRESSION] = tfidf_logistic_regression(
            inputs=inputs, answers=answers, questions=questions
        )
    if kind is TaskKind.MULTI_LABEL:
        predictions[TFIDF_LOGISTIC_REGRESSION] = tfidf_one_vs_rest(inputs=inputs, answers=answers, questions=questions)
    return {
        name: evaluation_report(
            graded(items, predicted, compare=compare_of(kind), aliases=aliases),
            kind=kind,
            pool_sizes=pool_sizes,
            budget=budget,
            ceiling=ceiling,
        )
        for name, predicted in predictions.items()
    }


def tfidf_logistic_regression(*, inputs: Sequence[str], answers: Sequence[str], questions: Sequence[str]) -> list[str]:
    """Return the answers of a logistic regression over TF-IDF of words, classes weighted equally.

    Deterministic. Rows with a single answer or without any word leave nothing to learn: the majority answers.
    """
    majority = majority_answer(answers)
    if len(set(answers)) == 1 or not _have_words(inputs):
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


def tfidf_one_vs_rest(*, inputs: Sequence[str], answers: Sequence[str], questions: Sequence[str]) -> list[str]:
    """Return the sets of labels that one such regression a label says yes to; where none does, the likeliest label.

    Deterministic. Where there is nothing to learn, the majority answers.
    """
    sets = [labels_in(answer) for answer in answers]
    labels = sorted(frozenset().union(*sets))
    if len(labels) == 1 or not _have_words(inputs):
        return [joined_labels(labels_in(majority_answer(answers)))] * len(questions)
    if not questions:
        return []
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=_WORD)
    rows, asked = vectorizer.fit_transform(inputs), vectorizer.transform(questions)
    shares = np.ones((len(questions), len(labels)))
    for number, label in enumerate(labels):
        carries = [label in one for one in sets]
        if not all(carries):
            # liblinear: made for two classes, and several times faster over the dozens of labels.
            classifier = LogisticRegression(C=10.0, class_weight="balanced", max_iter=2000, solver="liblinear")
            shares[:, number] = classifier.fit(rows, carries).predict_proba(asked)[:, 1]
    return [
        joined_labels([label for label, share in zip(labels, of_question, strict=True) if share > 0.5])
        or labels[int(of_question.argmax())]
        for of_question in shares
    ]


def _have_words(inputs: Sequence[str]) -> bool:
    return any(re.search(_WORD, text) for text in inputs)
