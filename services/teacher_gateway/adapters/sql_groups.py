"""One transaction for a group of reserves, marks and bookings of one process (ADR 30).

The order in it is the same everywhere (ADR 13): budgets are made root to leaf, windows locked by id, holds written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import structlog
from sqlalchemy import Connection, Engine, select

from baldistill.database.clock import DatabaseClock, told_ms
from baldistill.database.membership import is_one_of
from baldistill.database.together import Ran, Run, run_together
from baldistill.database.transactions import retrying
from baldistill.errors import DependencyUnavailable, NotKnown, RetryableError
from services.teacher_gateway.adapters import sql_gate
from services.teacher_gateway.adapters.sql_counters import Shift, locking_windows, standing_of
from services.teacher_gateway.adapters.sql_database_watch import DatabaseWatch
from services.teacher_gateway.adapters.sql_group_bookings import BookingPlan, ending_together, plan_bookings
from services.teacher_gateway.adapters.sql_group_reserves import (
    finding_attempts,
    granting_together,
    last_attempts,
    reserved_by_id,
)
from services.teacher_gateway.adapters.sql_holds import book_one, finding_holds, holds_found, mark_sent
from services.teacher_gateway.adapters.sql_settlement import windows_of_hold
from services.teacher_gateway.adapters.sql_tables import HOLDS
from services.teacher_gateway.adapters.sql_thresholds import note_thresholds
from services.teacher_gateway.adapters.sql_window_directory import WindowDirectory
from services.teacher_gateway.errors import BudgetMissing
from services.teacher_gateway.ledger.budgets import BudgetPath
from services.teacher_gateway.ledger.granting import Asked, Grant, LastAttempt, Standing, plus, propose
from services.teacher_gateway.ledger.holds import Booking, HoldState, Reserved, ReserveOutcome, ReserveRequest

# What was read is outdated only where replicas meet around midnight, or a sweeper took what was booked just now.
_TRIES = 5
_NOT_SENT = Booking(state=HoldState.RELEASED, outcome="not_sent")

_log = structlog.get_logger("teacher_gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserving:
    """Requests of one caller; all are held or refused, each by itself. reserve_ids: name them (ADR 13)."""

    requests: Sequence[ReserveRequest]
    reserve_ids: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Marking:
    reserved: Reserved
    mark_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BookingWork:
    reserved: Reserved
    booking: Booking


GroupWork: TypeAlias = Reserving | Marking | BookingWork


class GroupOutdated(Exception):
    """What a group read was not what stood when it wrote: it is to be done again, from its reading on."""


class LedgerGroups:
    """Does groups, for GroupCommit's one thread. one_writer: held around each transaction."""

    def __init__(
        self,
        engine: Engine,
        *,
        clock: DatabaseClock,
        owner_id: str,
        one_writer: AbstractContextManager[object],
        watch: DatabaseWatch,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._owner_id = owner_id
        self._one_writer = one_writer
        self._watch = watch
        self._windows = WindowDirectory()
        self._newest: tuple[int, str] | None = None
        self._database: str | None = None
        self._is_in_doubt = False
        # Reserves of unknown outcome, with the windows that they would be held in; None of them was sent.
        self._doubtful: dict[str, frozenset[int]] = {}
        self._tried: dict[str, frozenset[int]] = {}
        # Granted, but the caller had given up waiting for it.
        self._unwanted: deque[Reserved] = deque()

    def unheard(self, work: GroupWork, result: Any) -> None:
        """Give back what nobody waits for any more. For any thread."""
        if isinstance(work, Reserving):
            self._unwanted.extend(one for one in result if isinstance(one, Reserved))

    def is_now_in(self, database: str) -> None:
        """Look again before the next group where that is another database than the groups know. For any thread."""
        if database != self._database:
            self._is_in_doubt = True

    @property
    def has_leftovers(self) -> bool:
        """True where something is to be given back with the next group."""
        return bool(self._unwanted or self._doubtful)

    def do(self, group: Sequence[GroupWork]) -> list[Any]:
        """Do a group in one transaction. Return a result, or the exception to raise, for each."""
        unwanted = [self._unwanted.popleft() for _ in range(len(self._unwanted))]
        given_back = [BookingWork(reserved=one, booking=_NOT_SENT) for one in unwanted]
        try:
            return self._commit([*group, *given_back])[: len(group)]
        except RetryableError as error:
            # Whether the last try was applied nobody knows; what it would hold is looked for as soon as that can be told.
            self._doubtful |= self._tried
            self._unwanted.extend(unwanted)
            return [error] * len(group)
        # A mistake of ours or a value that no column holds: its caller is to hear of it.
        except Exception as error:  # noqa: BLE001
            self._unwanted.extend(unwanted)
            if len(group) == 1:
                return [error]
            # One of them is at fault: the others are not to pay for it.
            _log.warning("a_group_is_done_one_by_one", works=len(group), error=type(error).__name__)
            return [result for one in group for result in self.do([one])]
        finally:
            self._tried = {}

    def _commit(self, group: Sequence[GroupWork]) -> list[Any]:
        for _ in range(_TRIES):
            try:
                with self._one_writer:
                    results = retrying(self._engine, lambda connection: self._work(connection, group))
            except GroupOutdated:
                self._windows.rolled_back()
                continue
            except BaseException:
                self._windows.rolled_back()
                raise
            self._windows.committed()
            self._doubtful.clear()
            if self._newest is not None:
                self._watch.remember(self._newest)
            return results
        raise DependencyUnavailable(dependency="ledger", reason="what it read was outdated at each try")

    def _work(self, connection: Connection, group: Sequence[GroupWork]) -> list[Any]:
        # A repeated transaction finds anew what an earlier try of it rolled back.
        self._windows.rolled_back()
        self._newest = None
        self._check_database(connection)
        ended = [one.reserved.hold_id for one in group if not isinstance(one, Reserving)]
        asking = self._clock.asking(sharing=sql_gate.LOCK)
        told, found = run_together(connection, [asking, finding_holds(connection, ended)])
        now_ms, holds = told_ms(told), holds_found(found)
        results: dict[int, Any] = {}
        asked = self._asked(connection, group, results, now_ms=now_ms)
        everything = [request for one in asked.values() for request in one]
        windows = self._windows_of(asked.values(), holds.values())
        reading = before = _read_locked(connection, windows, everything)
        plan = plan_bookings(_bookings(group, holds, results))
        results |= {place: booking.state for place, (_, booking) in plan.together.items()}
        writes = ending_together(plan, now_ms=now_ms)
        if self._doubtful or plan.alone or any(isinstance(one, Marking) for one in group):
            self._give_back_doubtful(connection, now_ms=now_ms)
            _write(connection, writes)
            for place, (hold, booking) in plan.alone.items():
                results[place] = book_one(connection, hold, booking, now_ms=now_ms)
            self._mark(connection, group, holds, results, now_ms=now_ms)
            # Budgets may have been closed as well: what was read of them is worth nothing.
            reading, writes = _read_locked(connection, windows, everything), []
        else:
            reading = reading.after(plan)
        outcomes = iter(self._reserve(connection, everything, reading, writes, now_ms=now_ms))
        results |= {place: [next(outcomes) for _ in one] for place, one in asked.items()}
        note_thresholds(connection, before.standing, reading.standing, now_ms=now_ms)
        return [results[place] for place in range(len(group))]

    def _reserve(
        self,
        connection: Connection,
        everything: Sequence[Asked],
        reading: _Reading,
        writes: Sequence[tuple[Run, int | None]],
        *,
        now_ms: int,
    ) -> list[ReserveOutcome]:
        """Write, and hold what fits behind it, in one round trip. Raises GroupOutdated."""
        proposals = propose(everything, standing=reading.standing, last=reading.last)
        grants = [one for one in proposals if isinstance(one, Grant)]
        ran = _write(connection, [*writes, *granting_together(grants, owner_id=self._owner_id, now_ms=now_ms)])
        ids = reserved_by_id(grants, ran[len(writes)])
        outcomes = [ids[one.asked.reserve_id] if isinstance(one, Grant) else one for one in proposals]
        self._newest = _newest_hold(everything, outcomes)
        return outcomes

    def _check_database(self, connection: Connection) -> None:
        found = self._watch.check(connection, anew=self._is_in_doubt)
        if found != self._database:
            # Ids that are remembered of another database may be other windows' here.
            self._windows.forget()
        self._database, self._is_in_doubt = found, False

    def _asked(
        self, connection: Connection, group: Sequence[GroupWork], results: dict[int, Any], *, now_ms: int
    ) -> dict[int, list[Asked]]:
        """Return what each caller asks for, with its windows; whose budget is missing has its result."""
        reserving = {place: one for place, one in enumerate(group) if isinstance(one, Reserving)}
        # In one order, as rows that are made here lock like others.
        paths = sorted({r.path for one in reserving.values() for r in one.requests}, key=lambda path: path.sort_key)
        chains: dict[BudgetPath, Mapping[BudgetPath, int]] = {}
        missing: dict[BudgetPath, BudgetMissing] = {}
        for path in paths:
            try:
                chains[path] = self._windows.chain(connection, path, now_ms=now_ms)
            except BudgetMissing as error:
                missing[path] = error
        asked: dict[int, list[Asked]] = {}
        for place, one in reserving.items():
            at_fault = next((missing[request.path] for request in one.requests if request.path in missing), None)
            if at_fault is not None:
                results[place] = at_fault
                continue
            asked[place] = [
                Asked(request=request, reserve_id=reserve_id, windows=chains[request.path])
                for request, reserve_id in zip(one.requests, one.reserve_ids, strict=True)
            ]
            self._tried |= {one.reserve_id: frozenset(one.windows.values()) for one in asked[place]}
        return asked

    def _windows_of(self, asked: Iterable[Sequence[Asked]], holds: Iterable[Mapping[Any, Any]]) -> set[int]:
        wanted = {window_id for one in asked for request in one for window_id in request.windows.values()}
        wanted |= {window_id for hold in holds for window_id in windows_of_hold(hold)}
        return wanted.union(*self._doubtful.values())

    def _give_back_doubtful(self, connection: Connection, *, now_ms: int) -> None:
        """Release what reserves of unknown outcome hold. Looked for under the locks that they held (ADR 13)."""
        if not self._doubtful:
            return
        mine = is_one_of(connection, HOLDS.c.reserve_id, self._doubtful)
        for hold in connection.execute(select(HOLDS).where(mine)).mappings().all():
            book_one(connection, hold, _NOT_SENT, now_ms=now_ms)

    def _mark(
        self,
        connection: Connection,
        group: Sequence[GroupWork],
        holds: Mapping[int, Mapping[Any, Any]],
        results: dict[int, Any],
        *,
        now_ms: int,
    ) -> None:
        marking = {place: one for place, one in enumerate(group) if isinstance(one, Marking)}
        if not marking:
            return
        ids = {one.reserved.hold_id for one in marking.values()} & set(holds)
        # The first of the group names all its marks: it is the same one in each try of this transaction.
        mark_id = next(iter(marking.values())).mark_id
        marked = mark_sent(connection, ids, mark_id=mark_id, owner_id=self._owner_id, now_ms=now_ms)
        for place, one in marking.items():
            results[place] = one.reserved.hold_id in marked
            # Another call for the same hold is another sending: no.
            marked.discard(one.reserved.hold_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What stands in a group's windows, and the last attempts of its keys, read under the windows' locks."""

    standing: Mapping[int, Standing]
    last: Mapping[str, LastAttempt]

    def after(self, plan: BookingPlan) -> _Reading:
        """Return what stands once the plan's bookings are written."""
        ended = {hold["request_key"]: (hold["hold_id"], booking) for hold, booking in plan.together.values()}
        return _Reading(
            standing={window_id: _shifted(one, plan.shifts.get(window_id)) for window_id, one in self.standing.items()},
            last={key: _ended(one, ended.get(key)) for key, one in self.last.items()},
        )


def _read_locked(connection: Connection, windows: Iterable[int], asked: Sequence[Asked]) -> _Reading:
    keys = {one.request.request_key for one in asked}
    locked, found = run_together(connection, [locking_windows(connection, windows), finding_attempts(connection, keys)])
    return _Reading(standing=standing_of(locked), last=last_attempts(found))


def _write(connection: Connection, writes: Sequence[tuple[Run, int | None]]) -> list[Ran]:
    """Run statements in one round trip. Raises GroupOutdated where one changed other than so many rows."""
    ran = run_together(connection, [run for run, _ in writes])
    if any(expected is not None and one.changed != expected for one, (_, expected) in zip(ran, writes, strict=True)):
        raise GroupOutdated
    return ran


def _bookings(
    group: Sequence[GroupWork], holds: Mapping[int, Mapping[Any, Any]], results: dict[int, Any]
) -> dict[int, tuple[Mapping[Any, Any], Booking]]:
    """Return bookings with their holds by their places; whose hold is not there has its result."""
    bookings = {}
    for place, one in enumerate(group):
        if isinstance(one, BookingWork):
            if (hold := holds.get(one.reserved.hold_id)) is None:
                results[place] = _not_there(one.reserved)
            else:
                bookings[place] = (hold, one.booking)
    return bookings


def _ended(last: LastAttempt, ended: tuple[int, Booking] | None) -> LastAttempt:
    """Return an attempt as this group ends it."""
    if ended is None or ended[0] != last.hold_id:
        return last
    booking = ended[1]
    return replace(last, state=booking.state, reply=last.reply or booking.reply)


def _shifted(standing: Standing, shift: Shift | None) -> Standing:
    if shift is None:
        return standing
    return Standing(
        state=standing.state,
        ceilings=standing.ceilings,
        spent=plus(standing.spent, shift.spent),
        held=plus(standing.held, shift.held),
        all_frozen=standing.all_frozen,
    )


def _newest_hold(asked: Sequence[Asked], outcomes: Sequence[ReserveOutcome]) -> tuple[int, str] | None:
    for one, outcome in zip(reversed(asked), reversed(outcomes), strict=True):
        if isinstance(outcome, Reserved):
            return outcome.hold_id, one.reserve_id
    return None


def _not_there(reserved: Reserved) -> NotKnown:
    return NotKnown(kind="attempt", name=reserved.request_id, remedy="the ledger was restored from before it")
