"""When a run was closed, and whether it has been so for long enough to be deleted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.policy.ports import RunRecord, TimelineEntry


def closed_at(record: RunRecord, timeline: Sequence[TimelineEntry]) -> datetime | None:
    """Return when a run came to its end (UTC); None where it has not, or nobody noted a fact of it.

    Nothing happens in a closed run, so the last fact of its timeline is the one that closed it, or came before that.
    """
    if not record.state.is_final or not timeline:
        return None
    return max(entry.at for entry in timeline)


def is_expired(record: RunRecord, timeline: Sequence[TimelineEntry], *, older_than: timedelta, now: datetime) -> bool:
    """Tell whether a run has been closed for longer than `older_than`."""
    closed = closed_at(record, timeline)
    return closed is not None and now - closed > older_than
