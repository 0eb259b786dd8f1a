"""Records of the broker to messages and back."""

from __future__ import annotations

from typing import Any

from baldistill.bus.ports import Message
from baldistill.seeding import stable_hash


def partition_of(message: Message, *, partitions: int) -> int:
    """Return where a message goes: shards are spread evenly, everything else stays in order by key."""
    number = message.partition_hint if message.partition_hint is not None else stable_hash(message.key)
    return number % partitions


def wire_headers(message: Message) -> list[tuple[str, bytes]]:
    """Return headers as the broker carries them. Ours are ASCII; what others wrote goes to the dead letters with theirs."""
    return [(name, text.encode()) for name, text in message.headers.items()]


def read_record(record: Any, *, topic: str) -> Message:
    """Return the message of a record. Whatever anybody wrote becomes a message: judging it is the codec's."""
    return Message(
        topic=topic,
        key=(record.key or b"").decode("utf-8", errors="replace"),
        value=record.value or b"",
        headers={name: (value or b"").decode("utf-8", errors="replace") for name, value in record.headers or ()},
    )
