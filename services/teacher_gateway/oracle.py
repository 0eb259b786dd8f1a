"""What the `oracle` teacher answers: what people wrote, given out by fixed rules (DESIGN 6). Pure.

An upper bound of a teacher, not a claim about any: its rationales are human and its inventions are real items.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from baldistill.datasets.examples import Example
from baldistill.seeding import generator, stable_hash
from services.teacher_gateway.ports import RequestSubject

# Without the agreed form, so that the gateway counts it as unparsable: it was asked for, and nothing came.
NOTHING_LEFT = "I have no further example of this domain."
NO_RATIONALE = "I have no explanation for this example."
# A label-only student is never shown it; a synthesised example has to have one.
_NO_HUMAN_RATIONALE = "This is a real example; nobody explained it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """items: real examples by domain, each in the order in which it is drawn.   rationales: by example id.

    labels: all labels in sorted order, empty for free text.   label_noise: share of drawn examples with a wrong answer.
    """

    items: Mapping[str, Sequence[Example]]
    rationales: Mapping[str, str]
    labels: Sequence[str]
    seed: int
    label_noise: float

    def answer(self, subject: RequestSubject) -> str:
        """Return the reply to one request: a function of what is asked and of the seed alone."""
        if subject.example is not None:
            return self._annotation(subject.example)
        return self._drawn(subject.domain, subject.draw)

    def _annotation(self, example: Example) -> str:
        """The true answer stands in the prompt, so there is no noise here."""
        rationale = self.rationales.get(example.example_id)
        return f"{rationale}\nAnswer: {_one_line(example.answer)}" if rationale else NO_RATIONALE

    def _drawn(self, domain: str, draw: int) -> str:
        items = self.items.get(domain, ())
        if draw >= len(items):
            return NOTHING_LEFT
        item = items[draw]
        answer = self._noisy(item, draw) if self._is_noisy(domain, draw) else item.answer
        rationale = self.rationales.get(item.example_id, _NO_HUMAN_RATIONALE)
        return f"<input>{item.input}</input>\n<rationale>{rationale}</rationale>\n<answer>{_one_line(answer)}</answer>"

    def _is_noisy(self, domain: str, draw: int) -> bool:
        return stable_hash(self.seed, "label noise", domain, draw) < self.label_noise * 2**64

    def _noisy(self, item: Example, draw: int) -> str:
        """Return another label, of free text another answer of the domain; the true one where there is no other."""
        known = self.labels or sorted({one.answer for one in self.items[item.domain]})
        others = [label for label in known if label != item.answer]
        return others[stable_hash(self.seed, "wrong label", item.domain, draw) % len(others)] if others else item.answer


def in_drawing_order(items: Iterable[Example], *, seed: int) -> dict[str, list[Example]]:
    """Shuffle each domain's items by the seed: draw number n of a run takes item n, so that none comes twice."""
    of_domain: dict[str, list[Example]] = defaultdict(list)
    for item in items:
        of_domain[item.domain].append(item)
    return {
        domain: [
            of_domain[domain][place] for place in generator(seed, "oracle", domain).permutation(len(of_domain[domain]))
        ]
        for domain in sorted(of_domain)
    }


def _one_line(answer: str) -> str:
    return " ".join(answer.split())
