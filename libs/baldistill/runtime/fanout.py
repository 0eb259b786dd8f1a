"""Fan-out in a window: which shards may be planned next (DESIGN 3). Pure decisions.

The shards of a fan-out fall into `window` lanes: lane r holds r, r + window, r + 2 window ... One shard of a lane is
in flight at a time, so that at most `window` shards of a run are planned and one duplicate moves one lane only.
"""

from __future__ import annotations

from collections.abc import Callable


def next_in_lane(*, after: int, shards: int, window: int, is_stored: Callable[[int], bool]) -> int | None:
    """Return the first shard of `after`'s lane behind it that is not stored yet, or None.

    Source: DESIGN 3. `shard + window` alone would strand what lies behind a shard stored before a crash.
    """
    return next((shard for shard in range(after + window, shards, window) if not is_stored(shard)), None)


def first_in_lanes(*, shards: int, window: int, is_stored: Callable[[int], bool]) -> list[int]:
    """Return, for each lane, its first shard that is not stored yet. Empty: all shards are stored."""
    firsts = (
        next_in_lane(after=lane - window, shards=shards, window=window, is_stored=is_stored) for lane in range(window)
    )
    return sorted(shard for shard in firsts if shard is not None)


def shard_rows(*, shard: int, rows: int, rows_per_shard: int) -> range:
    """Return the row numbers of a shard: a function of the spec alone, never of the number of replicas."""
    return range(shard * rows_per_shard, min(rows, (shard + 1) * rows_per_shard))


def shard_count(*, rows: int, rows_per_shard: int) -> int:
    """Return how many shards `rows` rows make."""
    return -(-rows // rows_per_shard)
