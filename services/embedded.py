"""All four services in one process: an in-process bus, local files, SQLite (DESIGN 6). Replay is resume.

One thread a consumer group; training and evaluation have the launcher's own. The caller's thread watches the facts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from baldistill.artifacts.ports import ArtifactStore
from baldistill.bus.in_process import InProcessBus
from baldistill.bus.ports import BusConsumer
from baldistill.errors import RunLocked
from baldistill.events.codec import decode
from baldistill.events.facts import FACTS, Fact, RunBlocked, RunCancelled, RunCompleted, RunFailed, RunPaused
from baldistill.events.publishing import FactPublisher
from baldistill.runtime.consumer import ConsumerLoop, DeadLetterWatch
from baldistill.runtime.file_locks import FileLock
from baldistill.runtime.handlers import ConsumerGroup
from baldistill.runtime.launching import JobWork
from baldistill.runtime.progress import ProgressSink, always, no_progress
from baldistill.runtime.retries import OutagePolicy, RetryPolicy
from baldistill.runtime.run_states import RunStateView
from services.policy.composition import build_policy
from services.policy.ports import RunRecord
from services.policy.submission import Proposal, announce, resume, submit
from services.selector.composition import build_selector
from services.teacher_gateway.composition import build_teacher_gateway
from services.trainer.composition import build_trainer

SETTLED = (RunCompleted, RunFailed, RunBlocked, RunPaused, RunCancelled)

# A person waits in front of a terminal: minutes of patience are a service's, not theirs.
EMBEDDED_RETRIES = RetryPolicy(tries=3, first_delay_s=0.5)
_LONGEST_OUTAGE_DELAY_S = 5.0

# How long a polite stop waits for handlers at work; what they leave undone is done at the next start.
_STOP_S = 10.0


class EmbeddedSystem(AbstractContextManager["EmbeddedSystem"]):
    """The composed system. Use it in a `with` block; `work_on` one run at a time."""

    def __init__(
        self,
        *,
        store: ArtifactStore,
        engine: sa.Engine,
        locks: Path,
        progress: ProgressSink = no_progress,
        together: JobWork | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        patience: timedelta = timedelta(seconds=60),
    ) -> None:
        """patience: how long a dependency may be away before `work_on` raises.

        together: does trainings that a spec wants done by several processes; without it they are refused.
        """
        self._exit = ExitStack()
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._store = store
        self._locks = locks
        self._outages = OutagePolicy(longest_delay_s=_LONGEST_OUTAGE_DELAY_S, give_up_after=patience)
        self._bus = InProcessBus()
        self._exit.callback(self._bus.close)
        self._policy = build_policy(store=store, engine=engine, now=now)
        self.registry = self._policy.registry
        self.gateway = build_teacher_gateway(store=store, engine=engine, locks=locks, progress=always(progress))
        self._exit.callback(self.gateway.close)
        self._trainer = build_trainer(
            store=store,
            publish=FactPublisher(self._bus, source="trainer"),
            progress=always(progress),
            on_job_failed=lambda _job, error: self._fail(error),
            together=together,
        )
        self._exit.callback(self._trainer.close)
        self._selector_groups = build_selector(store=store, progress=always(progress))
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self.gateway.begin_drain()
        for thread in self._threads:
            thread.join(timeout=_STOP_S)
        self._exit.close()

    def work_on(self, proposal: Proposal, *, on_fact: Callable[[Fact], None] = lambda _fact: None) -> RunRecord:
        """Submit a run, or take it up where it is, and return its record when nothing more is to be done.

        on_fact sees every fact of the run, duplicates included. Raises RunLocked where another process works on the
        run, and whatever ended the work: an outage, a full disk, a failed training.
        """
        with FileLock(self._locks / f"run-{proposal.frozen.run_id}.lock") as lock:
            if not lock.try_acquire():
                raise RunLocked(run_id=proposal.frozen.run_id, owner_pid=lock.owner_pid())
            record, _ = submit(proposal, store=self._store, registry=self.registry)
            if record.state.is_final:
                return record
            record = resume(record, registry=self.registry)
            observer = self._bus.consumer(group="embedded", topics=[fact.TOPIC for fact in FACTS])
            FactPublisher(self._bus, source="embedded")(announce(record))
            self._start()
            self._watch(observer, on_fact)
            found = self.registry.find(tenant=record.tenant, run_id=record.run_id)
            assert found is not None
            return found

    def _watch(self, observer: BusConsumer, on_fact: Callable[[Fact], None]) -> None:
        while True:
            if self._failure is not None:
                raise self._failure
            delivery = observer.poll(timeout_s=0.2)
            if delivery is None:
                continue
            observer.commit(delivery)
            fact = decode(delivery.message)
            on_fact(fact)
            if isinstance(fact, SETTLED):
                return

    def _start(self) -> None:
        groups = [*self._selector_groups, *self.gateway.groups, *self._trainer.groups]
        self._run(self._policy.group, run_states=None, dead_letters=self._policy.dead_letters)
        for group in groups:
            self._run(group, run_states=RunStateView(self._bus), dead_letters=None)

    def _run(
        self, group: ConsumerGroup, *, run_states: RunStateView | None, dead_letters: DeadLetterWatch | None
    ) -> None:
        loop = ConsumerLoop(
            bus=self._bus,
            group=group,
            run_states=run_states,
            dead_letters=dead_letters,
            retries=EMBEDDED_RETRIES,
            outages=self._outages,
            on_give_up=self._fail,
        )
        # Daemons: a second Ctrl-C ends the process, and the next start finds what was stored.
        thread = threading.Thread(target=loop.run, args=(self._stop,), name=group.name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
