"""Dead letters, kept whole until a person has looked, and what may be done about one (DESIGN 3)."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from baldistill.bus.ports import Message
from baldistill.events.codec import EVENT_ID_HEADER
from baldistill.events.dead_letters import DeadLetter
from baldistill.events.identity import EVENT_NAMESPACE


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLetter:
    """A dead letter as it is kept. message: as it was first published.   first_seen_at, replayed_at: UTC, None = never.

    tenant, run_id, epoch, stage: of its fact; empty and 0 where the message cannot be decoded: it belongs to no run.
    """

    letter_id: str
    message: Message
    tenant: str
    run_id: str
    epoch: int
    stage: int
    group: str
    reason: str
    error: str
    attempts: int
    first_seen_at: datetime | None = None
    replayed_at: datetime | None = None
    replayed_by: str = ""

    @property
    def is_decodable(self) -> bool:
        return bool(self.run_id)


class DeadLetterBox(Protocol):
    """Durable dead letters. Thread- and process-safe. Times by the database's clock."""

    def keep(self, letter: KeptLetter) -> None:
        """Keep a letter; one that comes again, replayed or not, waits again. Idempotent."""

    def find(self, letter_id: str) -> KeptLetter | None:
        """Return a letter, whole."""

    def page(
        self, *, tenant: str | None, run_id: str, with_replayed: bool, size: int, after: KeptLetter | None
    ) -> list[KeptLetter]:
        """Return up to `size` letters, newest first, those behind `after`.

        tenant: None = all, and those of no run.   run_id: empty = of all runs.
        """

    def count_waiting(self) -> dict[str, int]:
        """Return how many letters were not replayed, by topic."""

    def mark_replayed(self, letter_id: str, *, by: str) -> KeptLetter:
        """Note that a letter was published again. Raises NotKnown."""


def kept_letter(letter: DeadLetter) -> KeptLetter:
    """Return what is kept of a dead letter."""
    fact = letter.fact
    return KeptLetter(
        letter_id=letter_id_of(letter),
        message=letter.original,
        tenant=fact.tenant if fact else "",
        run_id=fact.run_id if fact else "",
        epoch=fact.epoch if fact else 0,
        stage=fact.stage if fact else 0,
        group=letter.group,
        reason=letter.reason,
        error=letter.error,
        attempts=letter.attempts,
    )


def letter_id_of(letter: DeadLetter) -> str:
    """Return `uuid5(topic, event, group)`: the same message given up on by the same group again is the same letter.

    What has no event id, because anybody may write anything to a topic, goes by its bytes.
    """
    message = letter.original
    event = message.headers.get(EVENT_ID_HEADER) or hashlib.sha256(message.value).hexdigest()
    return str(uuid.uuid5(EVENT_NAMESPACE, f"letter/{message.topic}/{message.key}/{event}/{letter.group}"))
