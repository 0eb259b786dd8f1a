"""One transaction for a group of reserves, marks and bookings of one process (ADR 30).

The order in it is the same everywhere (ADR 13): budgets are made root to leaf, windows locked by id, holds written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

import structlog
from sqlalchemy import Connection, Engine, select

from baldistill.database.clock import DatabaseClock
from baldistill.database.membership import is_one_of
from baldistill.database.transactions import retrying
from baldistill.errors import DependencyUnavailable, NotKnown, RetryableError
from services.teacher_gateway.adapters import sql_gate
from services.teacher_gateway.adapters.sql_counters import Shift, lock_windows
from services.teacher_gateway.adapters.sql_database_watch import DatabaseWatch
from services.teacher_gateway.adapters.sql_group_bookings import book_group
from services.teacher_gateway.adapters.sql_group_reserves import GroupOutdated, reserve_group
from services.teacher_gateway.adapters.sql_holds import book_one, holds_by_id, mark_sent
from services.teacher_gateway.adapters.sql_settlement import windows_of_hold
from services.teacher_gateway.adapters.sql_tables import HOLDS
from services.teacher_gateway.adapters.sql_window_directory import WindowDirectory
from services.teacher_gateway.errors import BudgetMissing
from services.teacher_gateway.ledger.budgets import BudgetPath
from services.teacher_gateway.ledger.granting import Asked, Standing, plus
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
        now_ms = self._clock.now_ms(connection, sharing=sql_gate.LOCK)
        results: dict[int, Any] = {}
        asked = self._asked(connection, group, results, now_ms=now_ms)
        holds = holds_by_id(connection, [one.reserved.hold_id for one in group if not isinstance(one, Reserving)])
        standing = lock_windows(connection, self._windows_of(asked.values(), holds.values()))
        changed = self._give_back_doubtful(connection, now_ms=now_ms)
        shifts = self._book(connection, group, holds, results, now_ms=now_ms)
        self._mark(connection, group, holds, results, now_ms=now_ms)
        if changed or shifts is None:
            standing = lock_windows(connection, standing)
        else:
            standing = {window_id: _shifted(one, shifts.get(window_id)) for window_id, one in standing.items()}
        self._reserve(connection, asked, results, standing=standing, now_ms=now_ms)
        return [results[place] for place in range(len(group))]

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

    def _give_back_doubtful(self, connection: Connection, *, now_ms: int) -> bool:
        """Release what reserves of unknown outcome hold. Looked for under the locks that they held (ADR 13)."""
        if not self._doubtful:
            return False
        mine = is_one_of(connection, HOLDS.c.reserve_id, self._doubtful)
        found = connection.execute(select(HOLDS).where(mine)).mappings().all()
        for hold in found:
            book_one(connection, hold, _NOT_SENT, now_ms=now_ms)
        return bool(found)

    def _book(
        self,
        connection: Connection,
        group: Sequence[GroupWork],
        holds: Mapping[int, Mapping[Any, Any]],
        results: dict[int, Any],
        *,
        now_ms: int,
    ) -> Mapping[int, Shift] | None:
        places, bookings = [], []
        for place, one in enumerate(group):
            if isinstance(one, BookingWork):
                if (hold := holds.get(one.reserved.hold_id)) is None:
                    results[place] = _not_there(one.reserved)
                else:
                    places.append(place)
                    bookings.append((hold, one.booking))
        states, shifts = book_group(connection, bookings, now_ms=now_ms)
        results |= dict(zip(places, states, strict=True))
        return shifts

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

    def _reserve(
        self,
        connection: Connection,
        asked: Mapping[int, Sequence[Asked]],
        results: dict[int, Any],
        *,
        standing: Mapping[int, Standing],
        now_ms: int,
    ) -> None:
        if not asked:
            return
        everything = [request for one in asked.values() for request in one]
        done = reserve_group(connection, everything, standing=standing, owner_id=self._owner_id, now_ms=now_ms)
        self._newest = _newest_hold(everything, done)
        outcomes = iter(done)
        results |= {place: [next(outcomes) for _ in one] for place, one in asked.items()}


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
