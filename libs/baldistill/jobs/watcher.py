"""The durable launcher: each replica watches the registry, takes what nobody works on, and reports how it ended (ADR 20).

A launch is a row, so it outlives whoever wrote it; a lease says who works on it; another replica takes over what a dead
one left. Leases are trusted only after the registry was reachable for a whole lease: while it was away nobody could
renew theirs, and a process that just started does not know how long that was.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import structlog

from baldistill.errors import BalDistillError, DependencyUnavailable, RetryableError, StorageFull
from baldistill.events.trace_context import carrying
from baldistill.jobs.owners import JobOwner
from baldistill.jobs.registry import Claim, JobRegistry, JobState, Standing
from baldistill.runtime.launching import (
    Job,
    JobDisrupted,
    JobDone,
    JobEnded,
    JobFailed,
    JobKind,
    JobLeft,
    JobStopped,
    JobWork,
)
from baldistill.runtime.retries import OutagePolicy, RetryPolicy

DEFAULT_LEASE_S = 10.0
_TICK_S = 1.0
# After a disruption, so that a machine that kills everything at once is not kept busy by starting.
_AFTER_DISRUPTION_S = 1.0

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


class LeaseLost(BalDistillError):
    """Another owner works on the job; this one ends at once."""


class _GivenUp(Exception):
    """This process ends, or the job is another's: whoever has it next reports it."""


@dataclass(slots=True, kw_only=True)
class _Running:
    """A job that a thread of ours works on."""

    claim: Claim
    claimed_at_s: float
    stop: threading.Event = field(default_factory=threading.Event)
    lost: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    def should_stop(self) -> bool:
        """Raise LeaseLost where another owner has the job, JobLeft where its work is to go on without us."""
        if self.lost.is_set():
            raise LeaseLost(f"job {self.claim.job.name} is another owner's now")
        if self.left.is_set():
            raise JobLeft(f"job {self.claim.job.name} goes on")
        return self.stop.is_set()


class JobWatcher:
    """The JobLauncher port over a JobRegistry. `start` it once; `close` gives back what it works on.

    kinds: what this process can do.   work: done on a thread of its own, `capacity` at once.   on_done, on_failed:
    publish what a job came to; asked again while a dependency is away.   on_ended: told once that is said; raises nothing.
    retries: of a job's own failures.   leaves_work: the work outlives this process; `close` ends only our watching it.
    """

    def __init__(
        self,
        *,
        registry: JobRegistry,
        owner: JobOwner,
        kinds: Collection[JobKind],
        work: JobWork,
        on_done: JobDone,
        on_failed: JobFailed,
        on_ended: JobEnded = lambda _job, _age_s: None,
        capacity: int = 1,
        lease_s: float = DEFAULT_LEASE_S,
        tick_s: float = _TICK_S,
        retries: RetryPolicy | None = None,
        leaves_work: bool = False,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._owner = owner
        self._kinds = frozenset(kinds)
        self._work = work
        self._on_done = on_done
        self._on_failed = on_failed
        self._on_ended = on_ended
        self._capacity = capacity
        self._lease_s = lease_s
        self._tick_s = tick_s
        self._retries = retries or RetryPolicy()
        self._leaves_work = leaves_work
        self._outages = OutagePolicy(longest_delay_s=5.0)
        self._monotonic_s = monotonic_s
        self._reachable_since_s = monotonic_s()
        self._running: list[_Running] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="job-watcher", daemon=True)

    def start(self) -> None:
        """Begin to take jobs."""
        self._thread.start()

    def launch(self, job: Job) -> None:
        self._registry.put(job.in_current_trace())
        self._wake.set()

    def stop(self, *, tenant: str, run_id: str) -> None:
        self._registry.stop_run(tenant=tenant, run_id=run_id)
        self._wake.set()

    def is_busy(self) -> bool:
        with self._lock:
            if self._running:
                return True
        return self._registry.has_open(self._kinds)

    def close(self) -> None:
        self._closing.set()
        self._wake.set()
        with self._lock:
            running, threads = list(self._running), list(self._threads)
        for one in running:
            self._part_with(one)
        for thread in threads:
            thread.join()
        if self._thread.is_alive():
            self._thread.join()
        self._owner.release()

    def tick(self) -> None:
        """One round: renew and hear, then take what is free. A registry that is away is met with patience."""
        try:
            self._renew()
            self._free_the_dead()
            self._take()
        except (DependencyUnavailable, StorageFull) as error:
            self._reachable_since_s = self._monotonic_s()
            _log.warning("job registry unreachable", reason=str(error))

    def _watch(self) -> None:
        # Beating goes on until the last job has ended: its process is alive for so long.
        while not self._closing.is_set() or self._running:
            try:
                self.tick()
            # Without its beat every job here is another's within a lease, and nothing is taken any more.
            except Exception as error:  # noqa: BLE001
                _log.error("a round over the jobs failed", error=type(error).__name__, exc_info=error)
            self._wake.wait(self._tick_s)
            self._wake.clear()

    def _renew(self) -> None:
        with self._lock:
            running = list(self._running)
        for one in running:
            if self._closing.is_set():
                self._part_with(one)
            standing = self._registry.beat(one.claim, owner=self._owner.name, lease_s=self._lease_s)
            # One that gave its lease back a moment ago hears it too, and does not care.
            if standing is Standing.LOST:
                one.lost.set()
            elif standing is Standing.STOP:
                one.stop.set()

    def _part_with(self, one: _Running) -> None:
        (one.left if self._leaves_work else one.stop).set()

    def _free_the_dead(self) -> None:
        for name in self._registry.owners():
            if self._owner.is_proven_dead(name) and self._registry.free(owner=name):
                _log.warning("jobs of a dead owner freed", owner=name)

    def _take(self) -> None:
        with self._lock:
            room = self._capacity - len(self._running)
        if room <= 0 or self._closing.is_set():
            return
        trust_leases = self._monotonic_s() - self._reachable_since_s >= self._lease_s
        claims = self._registry.claim(
            owner=self._owner.name, kinds=self._kinds, limit=room, lease_s=self._lease_s, trust_leases=trust_leases
        )
        for claim in claims:
            one = _Running(claim=claim, claimed_at_s=self._monotonic_s())
            # The thread that starts a job's process waits for its end: the kernel ends a child with this very thread.
            thread = threading.Thread(target=self._run, args=(one,), name=claim.job.name, daemon=True)
            with self._lock:
                self._running.append(one)
                self._threads = [known for known in self._threads if known.is_alive()] + [thread]
            thread.start()

    def _run(self, one: _Running) -> None:
        try:
            self._settle(one)
        finally:
            with self._lock:
                self._running.remove(one)
            self._wake.set()

    def _settle(self, one: _Running) -> None:
        job = one.claim.job
        try:
            with carrying(job.traceparent):
                self._work(job, one.should_stop)
        except LeaseLost:
            _log.error("job lost to another owner", job=job.name, run_id=job.run_id)
        except (JobStopped, JobLeft):
            self._release(one)
        except JobDisrupted as error:
            _log.warning("job disrupted", job=job.name, run_id=job.run_id, reason=str(error))
            self._release(one, delay_s=_AFTER_DISRUPTION_S)
        except (DependencyUnavailable, StorageFull) as error:
            _log.warning("job waits", job=job.name, run_id=job.run_id, reason=str(error))
            self._release(one, delay_s=self._outages.longest_delay_s)
        except RetryableError as error:
            delay_s = self._retries.delay_s(attempt=one.claim.failures + 1)
            if delay_s is None:
                self._fail(one, error)
                return
            _log.warning("job failed", job=job.name, run_id=job.run_id, reason=str(error), delay_s=delay_s)
            self._release(one, delay_s=delay_s, failed=True)
        # Whatever a job dies of is somebody else's to judge; the other jobs live on.
        except Exception as error:  # noqa: BLE001
            self._fail(one, error)
        else:
            self._report_done(one)

    def _report_done(self, one: _Running) -> None:
        try:
            self._report(one, self._on_done, state=JobState.DONE)
        # What was made cannot be told, e.g. because an artifact is damaged: that is for a person.
        except Exception as error:  # noqa: BLE001
            self._fail(one, error)

    def _fail(self, one: _Running, error: Exception) -> None:
        job = one.claim.job
        _log.error("job given up", job=job.name, run_id=job.run_id, error=type(error).__name__, exc_info=error)
        self._report(one, lambda newest: self._on_failed(newest, error), state=JobState.FAILED, reason=str(error))

    def _report(self, one: _Running, tell: JobDone, *, state: JobState, reason: str = "") -> None:
        """Tell what a job came to, under each epoch that it was launched under meanwhile, then end it."""
        finish = partial(self._registry.finish, one.claim, owner=self._owner.name, state=state, reason=reason)
        beat = partial(self._registry.beat, one.claim, owner=self._owner.name, lease_s=self._lease_s)
        find = partial(self._registry.find, tenant=one.claim.job.tenant, name=one.claim.job.name)
        try:
            if self._patiently(one, beat) is not Standing.KEEP:
                # Stopped, perhaps opened again: whoever takes it next finds the work done, and tells it.
                self._release(one)
                return
            record = self._patiently(one, find)
            waiting: Job | None = one.claim.job if record is None else record.job
            while waiting is not None:
                with carrying(waiting.traceparent):
                    self._patiently(one, partial(tell, waiting))
                waiting = self._patiently(one, partial(finish, epoch=waiting.epoch))
        except _GivenUp:
            return
        self._on_ended(one.claim.job, one.claim.age_s + self._monotonic_s() - one.claimed_at_s)

    def _release(self, one: _Running, *, delay_s: float = 0.0, failed: bool = False) -> None:
        release = partial(self._registry.release, one.claim, owner=self._owner.name, delay_s=delay_s, failed=failed)
        with contextlib.suppress(_GivenUp):
            self._patiently(one, release)

    def _patiently(self, one: _Running, step: Callable[[], _T]) -> _T:
        """Take a step again while a dependency is away. Raises _GivenUp where this process ends or the job is lost."""
        failures = 0
        while not one.lost.is_set():
            try:
                return step()
            except RetryableError as error:
                failures += 1
                _log.warning("job waits to be reported", job=one.claim.job.name, reason=str(error))
            if self._closing.wait(self._outages.delay_s(failures=failures)):
                break
        raise _GivenUp
