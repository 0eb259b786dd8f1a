"""Write examples/data/tickets.jsonl: a long-tailed set of support tickets that nobody wrote and nobody's data is in.

Every ticket is a problem of its domain between phrases that all domains share; some mention a problem of another
domain that is solved, some have a typing error. The same seed gives the same bytes on every machine.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from baldistill.seeding import stable_hash

ROOT = Path(__file__).resolve().parent.parent
PHRASES = Path(__file__).with_name("ticket_phrases.yaml")
DEFAULT_OUTPUT = ROOT / "examples" / "data" / "tickets.jsonl"
WORDS = range(10, 31)

CONTEXT_SHARE = 0.65
DETAIL_SHARE = 0.75
REQUEST_SHARE = 0.6
OTHER_PROBLEM_SHARE = 0.08
TYPING_ERROR_SHARE = 0.1
LOWER_CASE_SHARE = 0.15


class Dice:
    """A stream of decisions that is a function of its seed parts: `random` may change with Python's version."""

    def __init__(self, *parts: str | int) -> None:
        self._parts = parts
        self._throws = 0

    def below(self, limit: int) -> int:
        """Return a number from 0 to limit - 1."""
        self._throws += 1
        return stable_hash(*self._parts, self._throws) % limit

    def happens(self, share: float) -> bool:
        """Return True in this share of the cases."""
        return self.below(1_000_000) < share * 1_000_000

    def choice(self, options: Sequence[str]) -> str:
        """Return one of the options."""
        return options[self.below(len(options))]


def tickets(phrases: Mapping[str, Any], *, seed: int) -> list[dict[str, str]]:
    """Return all tickets in an order that mixes the domains."""
    rows = []
    for domain, content in phrases["domains"].items():
        texts = _texts(phrases, domain, seed=seed)
        rows += [(domain, next(texts)) for _ in range(content["rows"])]
    rows.sort(key=lambda row: stable_hash(seed, "order", *row))
    return [
        {"id": f"ticket-{number:04d}", "domain": domain, "input": text, "answer": domain}
        for number, (domain, text) in enumerate(rows, start=1)
    ]


def _texts(phrases: Mapping[str, Any], domain: str, *, seed: int) -> Iterator[str]:
    """Yield different tickets of a domain, without end as long as the phrases give new ones."""
    seen = set()
    attempt = 0
    while True:
        attempt += 1
        text = _ticket(phrases, domain, dice=Dice(seed, domain, attempt))
        if len(text.split()) in WORDS and text.lower() not in seen:
            seen.add(text.lower())
            yield text


def _ticket(phrases: Mapping[str, Any], domain: str, *, dice: Dice) -> str:
    problem = dice.choice(phrases["domains"][domain]["problems"])
    if dice.happens(OTHER_PROBLEM_SHARE):
        other = dice.choice([name for name in phrases["domains"] if name != domain])
        solved = dice.choice(phrases["domains"][other]["problems"])
        sentences = [f"Earlier {solved}, that is solved, but now {problem}."]
    elif dice.happens(CONTEXT_SHARE):
        sentences = [f"{dice.choice(phrases['contexts'])} {problem}."]
    else:
        sentences = [f"{problem[0].upper()}{problem[1:]}."]
    if dice.happens(DETAIL_SHARE):
        sentences.insert(dice.below(2), dice.choice(phrases["details"]))
    if dice.happens(REQUEST_SHARE):
        sentences.append(dice.choice(phrases["requests"]))
    text = " ".join(sentences)
    text = re.sub(r"\{(\w+)\}", lambda slot: dice.choice(phrases["fillers"][slot[1]]), text)
    if dice.happens(TYPING_ERROR_SHARE):
        text = _with_typing_error(text, dice=dice)
    return text.lower() if dice.happens(LOWER_CASE_SHARE) else text


def _with_typing_error(text: str, *, dice: Dice) -> str:
    """Swap two neighbouring letters inside one longer word."""
    words = list(re.finditer(r"[a-z]{5,}", text))
    word = words[dice.below(len(words))]
    at = word.start() + 1 + dice.below(len(word[0]) - 2)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def main() -> None:
    """Write the file and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=1, help="another seed gives other tickets (default: 1)")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="JSONL file to write")
    arguments = parser.parse_args()
    rows = tickets(yaml.safe_load(PHRASES.read_text(encoding="utf-8")), seed=arguments.seed)
    arguments.output.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8", newline="\n")
    print(f"{arguments.output}: {len(rows)} tickets, {arguments.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
