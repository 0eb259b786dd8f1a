"""Word F1 between a short answer and an accepted one, as SQuAD scores it. Pure.

Source: the official `evaluate-v2.0.py` of SQuAD (Rajpurkar et al. 2018): normalize_answer, compute_f1.
"""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


def normalised(answer: str) -> str:
    """Return an answer in lower case, without ASCII punctuation, then without articles, with single spaces."""
    bare = "".join(character for character in answer.lower() if character not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def word_f1(answer: str, accepted: str) -> float:
    """Return the F1 of the words that two answers share, each as often as it stands in both; 0 to 1.

    Where one has no word left ("The"), it is 1 if the other has none either, else 0.
    """
    ours, theirs = normalised(answer).split(), normalised(accepted).split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs))
