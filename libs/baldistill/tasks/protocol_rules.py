"""What the `protocol` teacher answers: fixed rules over the request, no model, no quality claim (DESIGN 6).

A pure function of the request, so that a run with this teacher has the same bytes every time. Server errors alone are
a function of the attempt's id: the next attempt of the same request may succeed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baldistill.seeding import generator, stable_hash
from baldistill.specs.runspec import ProtocolTeacherSpec
from baldistill.tasks.label_answers import LABEL_SEPARATOR, option_letters
from baldistill.tasks.prompts import ChatMessage

# English prose has about four bytes a token; only the size of the reported usage depends on it.
_BYTES_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4
# The rest of an answer is for rationale, label and tags.
_INPUT_SHARE_OF_ANSWER = 0.5
_SALIENT_WORDS = 3
_SHORTEST_SALIENT = 4
_REPLACED_SHARE = 0.15

# What every task's annotation prompt has in common (tasks.wording); the noun tells which task it is.
_ANNOTATION = re.compile(
    r"(?:.*?^(?:Text|Problem): )?(?P<input>.*)\n"
    r"The correct (?P<noun>label|labels|option|result|answer) (?:is|are): (?P<answer>[^\n]*)\n",
    re.DOTALL | re.MULTILINE,
)
_DEMONSTRATION = re.compile(
    r"<input>(?P<input>.*?)</input>\s*(?:<rationale>.*?</rationale>\s*)?<answer>(?P<label>.*?)</answer>", re.DOTALL
)
_LABELS = re.compile(r"^Labels: (?P<labels>.*)$", re.MULTILINE)
_WORD = re.compile(r"[^\W\d_]+")
_COMMON_WORDS = """
about after again also been before being both could does doing down during each from further have having here into just
more most much once only other over same should some such than that their them then there these they this those through
under until very want were what when where which while whom will with would your yours
"""
_COMMON = frozenset(_COMMON_WORDS.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolAnswer:
    """One answer. status: 200 or 500.   finish_reason: `stop`, or `length` where the text was cut."""

    status: int
    text: str = ""
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0


def answer_by_rules(
    messages: Sequence[ChatMessage],
    *,
    seed: int | None,
    max_completion_tokens: int,
    request_id: str,
    behaviour: ProtocolTeacherSpec,
) -> ProtocolAnswer:
    """Answer one request. Latency is the caller's to spend."""
    if _happens("server_error", request_id, share=behaviour.server_error_share):
        return ProtocolAnswer(status=500)
    prompt = messages[-1].content
    content = f"{seed}\n{prompt}"
    if _happens("unparsable", content, share=behaviour.unparsable_share):
        text = "I would rather not say."
    elif demonstrations := _demonstrations(prompt):
        longest_input_bytes = int(max_completion_tokens * _BYTES_PER_TOKEN * _INPUT_SHARE_OF_ANSWER)
        text = _synthesis(demonstrations, content=content, longest_input_bytes=longest_input_bytes)
    else:
        wrong = _happens("wrong_label", content, share=behaviour.wrong_label_share)
        text = _annotation(prompt, content=content, wrong=wrong)
    return _within(text, messages=messages, max_completion_tokens=max_completion_tokens)


def _annotation(prompt: str, *, content: str, wrong: bool) -> str:
    match = _ANNOTATION.match(prompt)
    question, answer = (match["input"], match["answer"]) if match else (prompt, "unknown")
    final = _another_answer(prompt, answer, noun=match["noun"] if match else "", content=content) if wrong else answer
    return f"{_rationale(question, answer)}\nAnswer: {final}"


def _another_answer(prompt: str, answer: str, *, noun: str, content: str) -> str:
    """Return a wrong answer of the task's own kind: another label or letter, another number, other words."""
    if noun == "result":
        return f"{answer} + 1"
    match = _LABELS.search(prompt)
    separator = LABEL_SEPARATOR if noun == "labels" else ", "
    listed = match["labels"].split(separator) if match else option_letters(prompt) if noun == "option" else []
    others = [one for one in listed if one not in answer.split(separator)]
    return others[stable_hash("another label", content) % len(others)] if others else f"not {answer}"


def _rationale(question: str, label: str) -> str:
    words = _salient_words(question)
    if not words:
        return f"Its wording is typical of {label}."
    named = f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
    return f"The text mentions {named}, which is typical of {label}."


def _salient_words(text: str) -> list[str]:
    """Return the longest uncommon words, in the order of the text."""
    found = dict.fromkeys(word for word in _WORD.findall(text) if len(word) >= _SHORTEST_SALIENT)
    uncommon = [word for word in found if word.casefold() not in _COMMON]
    chosen = set(sorted(uncommon, key=lambda word: (-len(word), word))[:_SALIENT_WORDS])
    return [word for word in uncommon if word in chosen]


def _demonstrations(prompt: str) -> list[tuple[str, str]]:
    return [(match["input"].strip(), match["label"].strip()) for match in _DEMONSTRATION.finditer(prompt)]


def _synthesis(demonstrations: list[tuple[str, str]], *, content: str, longest_input_bytes: int) -> str:
    """Join the beginning of one demonstration with the end of another and exchange some words."""
    rng = generator("protocol synthesis", content)
    base = int(rng.integers(len(demonstrations)))
    label = demonstrations[base][1]
    # Options stay as they are and where they are, or the letter would name none of them.
    words = [_without_options(text).split() for text, _ in demonstrations]
    mixed = _joined(words[base], words[int(rng.integers(len(words)))], rng)
    vocabulary = sorted({word for one in words for word in one if len(word) >= _SHORTEST_SALIENT})
    if vocabulary:
        mixed = [
            str(vocabulary[int(rng.integers(len(vocabulary)))])
            if len(word) >= _SHORTEST_SALIENT and rng.random() < _REPLACED_SHARE
            else word
            for word in mixed
        ]
    options = "".join(f"\n{line}" for line in demonstrations[base][0].splitlines() if option_letters(line))
    text = _cut(" ".join(mixed), max(0, longest_input_bytes - len(options.encode()))) + options
    if text in {one for one, _ in demonstrations}:
        text = f"Again: {text}"
    return f"<input>{text}</input>\n<rationale>{_rationale(text, label)}</rationale>\n<answer>{label}</answer>"


def _without_options(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not option_letters(line))


def _joined(first: list[str], second: list[str], rng: np.random.Generator) -> list[str]:
    share = 0.3 + 0.4 * rng.random()
    return [*first[: max(1, round(len(first) * share))], *second[round(len(second) * share) :]]


def _within(text: str, *, messages: Sequence[ChatMessage], max_completion_tokens: int) -> ProtocolAnswer:
    kept = _cut(text, max_completion_tokens * _BYTES_PER_TOKEN)
    prompt_bytes = sum(len(message.content.encode()) for message in messages)
    return ProtocolAnswer(
        status=200,
        text=kept,
        finish_reason="stop" if kept == text else "length",
        prompt_tokens=-(-prompt_bytes // _BYTES_PER_TOKEN) + _TOKENS_PER_MESSAGE * len(messages),
        completion_tokens=min(max_completion_tokens, -(-len(kept.encode()) // _BYTES_PER_TOKEN)),
    )


def _cut(text: str, size_bytes: int) -> str:
    return text.encode()[:size_bytes].decode(errors="ignore")


def _happens(what: str, whose: str, *, share: float) -> bool:
    return stable_hash("protocol", what, whose) < share * 2**64
