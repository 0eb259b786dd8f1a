"""Budgets: where they stand, what they allow, in which window (DESIGN 4). Pure values and decisions."""

from __future__ import annotations

import calendar
import enum
from dataclasses import dataclass
from datetime import UTC, datetime

UNITS = ("calls", "tokens", "nano_usd")

# What stands in the database where a path has no stage.
NO_STAGE = -1


class Scope(enum.Enum):
    """Levels of budgets, root to leaf."""

    TENANT = "tenant"
    RUN = "run"
    STAGE = "stage"
    DOMAIN = "domain"


class WindowKind(enum.Enum):
    """Over which time a ceiling counts. Days and months are of UTC."""

    LIFETIME = "lifetime"
    DAY = "day"
    MONTH = "month"


class BudgetState(enum.Enum):
    """OPEN: may reserve. FROZEN: a person stopped it for now. CLOSED: the provider billed above a bound."""

    OPEN = "open"
    FROZEN = "frozen"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPath:
    """Names one budget: tenant, or tenant and run, and so on. stage: 1-based, NO_STAGE where there is none."""

    tenant: str
    run_id: str = ""
    stage: int = NO_STAGE
    domain: str = ""

    def __post_init__(self) -> None:
        parts = (bool(self.tenant), bool(self.run_id), self.stage != NO_STAGE, bool(self.domain))
        if sorted(parts, reverse=True) != list(parts) or not self.tenant:
            raise ValueError(f"a budget path has no gaps: {self}")

    @property
    def scope(self) -> Scope:
        if self.domain:
            return Scope.DOMAIN
        if self.stage != NO_STAGE:
            return Scope.STAGE
        return Scope.RUN if self.run_id else Scope.TENANT

    @property
    def chain(self) -> tuple[BudgetPath, ...]:
        """This budget and all above it, root first."""
        paths = [BudgetPath(tenant=self.tenant)]
        if self.run_id:
            paths.append(BudgetPath(tenant=self.tenant, run_id=self.run_id))
        if self.stage != NO_STAGE:
            paths.append(BudgetPath(tenant=self.tenant, run_id=self.run_id, stage=self.stage))
        return (*paths, self) if self.domain else tuple(paths)

    @property
    def sort_key(self) -> tuple[str, str, int, str]:
        """Order budgets so that each comes after those above it."""
        return (self.tenant, self.run_id, self.stage, self.domain)

    @property
    def label(self) -> str:
        """Name it among the budgets of one run: `run`, `stage 2`, `stage 2, domain api`."""
        if self.stage == NO_STAGE:
            return "run" if self.run_id else "tenant"
        return f"stage {self.stage}" + (f", domain {self.domain}" if self.domain else "")

    def __str__(self) -> str:
        parts = [f"tenant '{self.tenant}'"]
        parts += [f"run '{self.run_id}'"] if self.run_id else []
        parts += [f"stage {self.stage}"] if self.stage != NO_STAGE else []
        return ", ".join([*parts, f"domain '{self.domain}'"] if self.domain else parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """What is used, in the three units of a budget."""

    calls: int = 0
    tokens: int = 0
    nano_usd: int = 0


NOTHING = Amounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What is allowed; None: unlimited, the budget is a meter in that unit."""

    calls: int | None = None
    tokens: int | None = None
    nano_usd: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStatus:
    """One budget in its current window. spent includes unknown: calls whose outcome nobody knows, at their bound.

    fence: the highest that came with a change of state, 0 = none had one.
    """

    path: BudgetPath
    window_kind: WindowKind
    window_start_ms: int
    state: BudgetState
    ceilings: Ceilings
    spent: Amounts
    held: Amounts
    unknown: Amounts
    fence: int = 0

    def remaining(self, unit: str) -> int | None:
        """Return what may still be reserved in a unit, None where it is unlimited."""
        ceiling: int | None = getattr(self.ceilings, unit)
        if ceiling is None:
            return None
        used: int = getattr(self.spent, unit) + getattr(self.held, unit)
        return max(0, ceiling - used)


def window_start_ms(kind: WindowKind, now_ms: int) -> int:
    """Return the start of the window that `now_ms` is in, in ms since 1970 UTC; 0 for lifetime."""
    if kind is WindowKind.LIFETIME:
        return 0
    now = datetime.fromtimestamp(now_ms // 1000, tz=UTC)
    start = now.replace(hour=0, minute=0, second=0, microsecond=0, day=now.day if kind is WindowKind.DAY else 1)
    return calendar.timegm(start.timetuple()) * 1000
