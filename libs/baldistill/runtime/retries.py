"""How long failed work waits before it is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """For a handler's own failures. The defaults are 5 tries over 5 minutes (DESIGN 3): 7.5 + 22.5 + 67.5 + 202.5 s."""

    tries: int = 5
    first_delay_s: float = 7.5
    factor: float = 3.0

    def delay_s(self, *, attempt: int) -> float | None:
        """Return seconds to wait after failed try number `attempt` (from 1), or None where it was the last."""
        return None if attempt >= self.tries else self.first_delay_s * self.factor ** (attempt - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutagePolicy:
    """For the time in which a dependency is away: nothing is counted, the wait grows up to a ceiling.

    give_up_after: None waits for ever, as a service does; embedded mode tells its caller instead.
    """

    first_delay_s: float = 0.5
    factor: float = 2.0
    longest_delay_s: float = 10.0
    give_up_after: timedelta | None = None

    def delay_s(self, *, failures: int) -> float:
        """Return seconds to wait after `failures` (from 1) failures without a success between them."""
        # 2.0 ** 1024 overflows after hours of outage; the ceiling is reached long before.
        return min(self.longest_delay_s, self.first_delay_s * self.factor ** min(failures - 1, 64))

    def is_over(self, *, away_s: float) -> bool:
        """Tell whether an outage of `away_s` seconds is longer than this policy waits."""
        return self.give_up_after is not None and away_s >= self.give_up_after.total_seconds()
