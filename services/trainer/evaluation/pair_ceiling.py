"""How good one prediction an input can be, where inputs have several answers and each (input, answer) is an item. Pure.

Reuters counted as the paper counts it has 3,744 pairs of 3,019 documents: nobody who answers once a document reaches 1.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from baldistill.datasets.examples import Example
from services.trainer.evaluation.reports import Ceiling

# Each round changes one input's prediction where that raises macro; a few rounds reach a state that no such change improves.
_MOST_ROUNDS = 20


def pair_ceiling(items: Iterable[Example]) -> Ceiling | None:
    """Return the ceiling of one-vs-rest F1 and accuracy over pairs; None where every input has one answer."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        answers[item.input][item.answer] += 1
    questions = list(answers.values())
    if all(len(question) == 1 for question in questions):
        return None
    sizes = sum(questions, Counter())
    return Ceiling(
        micro=sum(max(question.values()) for question in questions) / sizes.total(),
        macro_reached=_searched_macro(questions, sizes),
        macro_at_most=sum(_best_f1(label, questions, sizes) for label in sizes) / len(sizes),
    )


def _best_f1(label: str, questions: Sequence[Mapping[str, int]], sizes: Mapping[str, int]) -> float:
    """Return a label's best F1: it is predicted for those of its questions where that costs the fewest false alarms."""
    costs = sorted((sum(one.values()) - one[label], one[label]) for one in questions if label in one)
    best, right, alarms = 0.0, 0, 0
    for false_alarms, gained in costs:
        right += gained
        alarms += false_alarms
        best = max(best, 2 * right / (right + alarms + sizes[label]))
    return best


def _searched_macro(questions: Sequence[Counter[str]], sizes: Mapping[str, int]) -> float:
    """Return the macro F1 of predictions that no change of a single one improves, from each question's rarest label on."""
    chosen = [min(question, key=lambda label: (sizes[label], label)) for question in questions]
    right: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    for question, label in zip(questions, chosen, strict=True):
        right[label] += question[label]
        predicted[label] += question.total()

    def f1(label: str, *, question: Counter[str], sign: int) -> float:
        gained, asked = sign * question[label], sign * question.total()
        return 2 * (right[label] + gained) / (predicted[label] + asked + sizes[label])

    contested = [number for number, question in enumerate(questions) if len(question) > 1]
    for _ in range(_MOST_ROUNDS):
        is_changed = False
        for number in contested:
            question, old = questions[number], chosen[number]
            loss = f1(old, question=question, sign=0) - f1(old, question=question, sign=-1)
            gains = {
                new: f1(new, question=question, sign=1) - f1(new, question=question, sign=0)
                for new in sorted(question)
                if new != old
            }
            new = max(gains, key=lambda label: gains[label])
            if gains[new] > loss + 1e-12:
                for label, sign in ((old, -1), (new, 1)):
                    right[label] += sign * question[label]
                    predicted[label] += sign * question.total()
                chosen[number], is_changed = new, True
        if not is_changed:
            break
    return sum(2 * right[label] / (predicted[label] + sizes[label]) for label in sizes) / len(sizes)
