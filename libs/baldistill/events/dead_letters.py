"""Messages that a group gave up on: the original, whole, with why and where in headers (DESIGN 3)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from urllib.parse import quote, unquote

from baldistill.bus.ports import Delivery, Message
from baldistill.errors import UndecodableMessage
from baldistill.events.codec import decode
from baldistill.events.facts import DEAD_LETTER_SUFFIX, Fact

REASON_HEADER = "dlq_reason"
ERROR_HEADER = "dlq_error"
GROUP_HEADER = "dlq_group"
TOPIC_HEADER = "dlq_topic"
ATTEMPTS_HEADER = "dlq_attempts"
_HEADERS = frozenset({REASON_HEADER, ERROR_HEADER, GROUP_HEADER, TOPIC_HEADER, ATTEMPTS_HEADER})

# Enough for a person; brokers limit the size of a record with its headers.
_LONGEST_REASON = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """fact: None where the message cannot be decoded; it then belongs to no run.

    original: the message as it was first published, to publish again.   error: the exception's class name.
    """

    original: Message
    fact: Fact | None
    reason: str
    error: str
    group: str
    attempts: int


def dead_letter_topic(topic: str) -> str:
    """Return the topic that takes a topic's dead letters."""
    return f"{topic}{DEAD_LETTER_SUFFIX}"


def is_dead_letter_topic(topic: str) -> bool:
    """Tell whether a topic holds dead letters."""
    return topic.endswith(DEAD_LETTER_SUFFIX)


def to_dead_letter(delivery: Delivery, *, group: str, error: Exception) -> Message:
    """Return the message for the dead-letter topic; value, key and headers of the original are kept."""
    original = delivery.message
    reason = str(error) or type(error).__name__
    return dataclasses.replace(
        original,
        topic=dead_letter_topic(original.topic),
        headers={
            **original.headers,
            # Headers are ASCII; space and punctuation stay readable.
            REASON_HEADER: quote(reason[:_LONGEST_REASON], safe=" !\"#$&'()*+,/:;<=>?@[]{}|"),
            ERROR_HEADER: type(error).__name__,
            GROUP_HEADER: group,
            TOPIC_HEADER: original.topic,
            ATTEMPTS_HEADER: str(delivery.attempt),
        },
    )


def read_dead_letter(message: Message) -> DeadLetter:
    """Return what `to_dead_letter` wrote. Raises UndecodableMessage where it is none."""
    headers = message.headers
    try:
        original = dataclasses.replace(
            message,
            topic=headers[TOPIC_HEADER],
            headers={name: text for name, text in headers.items() if name not in _HEADERS},
        )
        return DeadLetter(
            original=original,
            fact=_fact_or_none(original),
            reason=unquote(headers[REASON_HEADER]),
            error=headers[ERROR_HEADER],
            group=headers[GROUP_HEADER],
            attempts=int(headers[ATTEMPTS_HEADER]),
        )
    except (KeyError, ValueError) as error:
        raise UndecodableMessage(topic=message.topic, reason=f"not a dead letter: {error}") from error


def _fact_or_none(message: Message) -> Fact | None:
    try:
        return decode(message)
    except UndecodableMessage:
        return None
