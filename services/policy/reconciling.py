"""What a death or a lost message left undone, found and done again (DESIGN 3). One replica at a time, for economy.

It publishes nothing but what policy said last: what was set but not announced, a run state that the topic has wrong, and
the first fact of a run of which nothing has been seen for long. All of it may be said twice. Where a stop died half-way it
lets the run go on under its next epoch: nobody was told that it had stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import structlog

from baldistill.bus.ports import Bus
from baldistill.errors import PermanentError, RetryableError, UndecodableMessage
from baldistill.events.codec import decode
from baldistill.events.facts import Fact, RunState, RunStateChanged
from baldistill.runtime.handlers import PublishFacts
from services.policy.half_stops import HalfStops
from services.policy.ports import RunRecord, RunRegistry
from services.policy.run_commands import RunCommands
from services.policy.run_control import announcement

_log = structlog.get_logger(__name__)

# Gives the work to one replica: False where another has it.
TakeTurn = Callable[[], AbstractContextManager[bool]]
_Key = tuple[str, str]

# A turn ends at times, so that one that was lost with its connection is not believed in for long.
_TURN_S = 60.0


class LastSightings:
    """When anything was last seen of each run. Thread-safe. In memory: after a restart every clock starts anew."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen_s: dict[_Key, float] = {}
        # When a quiet run was last told anew: that is no sign of life.
        self._told_s: dict[_Key, float] = {}
        self._lock = threading.Lock()

    def note(self, fact: Fact) -> None:
        """A fact or progress of a run was seen."""
        with self._lock:
            self._seen_s[fact.tenant, fact.run_id] = self._monotonic()

    def quiet_among(self, runs: Iterable[RunRecord], *, for_s: float) -> list[RunRecord]:
        """Return the runs of which nothing was seen for so long, and start their clocks anew. Forgets all other runs."""
        now_s = self._monotonic()
        with self._lock:
            known = {(run.tenant, run.run_id): run for run in runs}
            self._seen_s = {key: self._seen_s.get(key, now_s) for key in known}
            self._told_s = {key: told_s for key, told_s in self._told_s.items() if key in known}
            quiet = [key for key in known if now_s - max(self._seen_s[key], self._told_s.get(key, 0.0)) >= for_s]
            self._told_s.update(dict.fromkeys(quiet, now_s))
        return [known[key] for key in quiet]

    def quiet_s(self, run: RunRecord) -> float:
        """Return for how many seconds nothing was seen of a run; its clock starts when it is first asked for."""
        now_s = self._monotonic()
        with self._lock:
            return now_s - self._seen_s.setdefault((run.tenant, run.run_id), now_s)


class Reconciler:
    """Looks every `every_s` seconds. `run` is called by one thread.

    quiet_s: seconds without progress or fact after which a running run is told anew.   settle_s: how long a command has
    to announce its change by itself.
    """

    def __init__(
        self,
        *,
        registry: RunRegistry,
        commands: RunCommands,
        bus: Bus,
        publish: PublishFacts,
        sightings: LastSightings,
        half_stops: HalfStops,
        take_turn: TakeTurn,
        quiet_s: float = 600.0,
        settle_s: float = 3.0,
        every_s: float = 2.0,
    ) -> None:
        self._registry = registry
        self._commands = commands
        self._bus = bus
        self._publish = publish
        self._sightings = sightings
        self._half_stops = half_stops
        self._take_turn = take_turn
        self._quiet_s = quiet_s
        self._settle_s = settle_s
        self._every_s = every_s
        # A handler publishes a moment after it has changed the row: only what is wrong twice in a row is wrong.
        self._wrong_before: dict[_Key, tuple[int, RunState]] = {}
        self._leads = False

    @property
    def is_leading(self) -> bool:
        """True in the one replica whose turn it is."""
        return self._leads

    def run(self, stop: threading.Event) -> None:
        """Step in our turns until `stop` is set. What is away is waited for."""
        while not stop.is_set():
            try:
                with self._take_turn() as is_ours:
                    self._leads = is_ours
                    ends_at_s = time.monotonic() + _TURN_S
                    while is_ours and not stop.wait(self._every_s) and time.monotonic() < ends_at_s:
                        self.step()
            except RetryableError as outage:
                _log.info("reconciling pauses", reason=str(outage))
            self._leads = False
            stop.wait(self._every_s)

    def step(self) -> None:
        """Look once. Raises DependencyUnavailable."""
        self._finish_commands()
        self._undo_half_stops()
        self._mend_topic()
        self._wake_quiet_runs()

    def _finish_commands(self) -> None:
        for record in self._registry.unannounced(for_s=self._settle_s):
            if self._settled(self._commands.finish, record) is not None:
                _log.info("finished a command", run_id=record.run_id, epoch=record.epoch, state=record.state.value)

    def _undo_half_stops(self) -> None:
        running = [row for row in self._registry.unfinished() if row.state is RunState.RUNNING and row.announced]
        for record in self._half_stops.among(running):
            if (settled := self._settled(self._commands.settle, record)) is not None:
                _log.warning("undid a stop that died half-way", run_id=record.run_id, epoch=settled.epoch)

    def _settled(self, settle: Callable[[RunRecord], RunRecord], record: RunRecord) -> RunRecord | None:
        """Settle one run; None where it cannot be. The others go on: their gateway may answer, their rows be whole."""
        try:
            return settle(record)
        except RetryableError as outage:
            _log.info("a command stays unfinished", run_id=record.run_id, reason=str(outage))
        except PermanentError as error:
            # Its row was deleted meanwhile, or its spec is gone: that is no reason to leave every other run alone.
            _log.error("a command cannot be finished", run_id=record.run_id, reason=str(error))
        return None

    def _mend_topic(self) -> None:
        told = self._told()
        rows = {(row.tenant, row.run_id): row for row in self._registry.unfinished()}
        for key, state in told.items():
            if key not in rows and not state.state.is_final:
                row = self._registry.find(tenant=key[0], run_id=key[1])
                if row is not None:
                    rows[key] = row
        wrong = {
            key: (row.epoch, row.state) for key, row in rows.items() if row.announced and not _says(told.get(key), row)
        }
        for key, place in wrong.items():
            if self._wrong_before.get(key) == place:
                _log.warning("the topic of run states was wrong", run_id=key[1], epoch=place[0], state=place[1].value)
                self._publish(announcement(rows[key]))
        self._wrong_before = wrong

    def _told(self) -> dict[_Key, RunStateChanged]:
        told: dict[_Key, RunStateChanged] = {}
        for message in self._bus.read_compacted(RunStateChanged.TOPIC):
            try:
                state = decode(message)
            except UndecodableMessage:
                continue
            assert isinstance(state, RunStateChanged)
            told[state.tenant, state.run_id] = state
        return told

    def _wake_quiet_runs(self) -> None:
        running = [row for row in self._registry.unfinished() if row.state is RunState.RUNNING]
        for record in self._sightings.quiet_among(running, for_s=self._quiet_s):
            _log.warning("nothing was seen of a run", run_id=record.run_id, stage=record.stage, for_s=self._quiet_s)
            self._publish(announcement(record))


def _says(state: RunStateChanged | None, row: RunRecord) -> bool:
    return state is not None and (state.epoch, state.state) == (row.epoch, row.state)
