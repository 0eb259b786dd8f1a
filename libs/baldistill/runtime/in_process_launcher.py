"""Jobs of this process one after the other, in the order of their launch: the embedded launcher (DESIGN 6)."""

from __future__ import annotations

import queue
import threading
from functools import partial

from baldistill.errors import RetryableError
from baldistill.events.trace_context import carrying
from baldistill.runtime.launching import Job, JobDone, JobFailed, JobStopped, JobWork
from baldistill.runtime.own_thread import in_own_thread
from baldistill.runtime.retries import RetryPolicy


class _Entry:
    """A launched job. `job` is replaced by a launch of the same name under a newer epoch."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.stop = threading.Event()


class InProcessLauncher:
    """The JobLauncher port over a worker thread: student compute has all its threads to itself.

    work: what a job does.   on_done: told once for each job that ended well.   on_failed: told what a job died of,
    after the retries that its verdict allows; the name is free again, so that a later launch tries anew.
    """

    def __init__(
        self, *, work: JobWork, on_done: JobDone, on_failed: JobFailed, retries: RetryPolicy | None = None
    ) -> None:
        self._work = work
        self._on_done = on_done
        self._on_failed = on_failed
        self._retries = retries or RetryPolicy()
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._unfinished = 0
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._work_off, name="jobs", daemon=True)
        self._thread.start()

    def launch(self, job: Job) -> None:
        job = job.in_current_trace()
        with self._lock:
            there = self._entries.get((job.tenant, job.name))
            if there is not None:
                there.job = max(there.job, job, key=lambda one: one.epoch)
                return
            if self._closed:
                return
            entry = self._entries[job.tenant, job.name] = _Entry(job)
            self._unfinished += 1
        self._queue.put(entry)

    def stop(self, *, tenant: str, run_id: str) -> None:
        with self._lock:
            own = [key for key, entry in self._entries.items() if (key[0], entry.job.run_id) == (tenant, run_id)]
            for key in own:
                self._entries.pop(key).stop.set()

    def is_busy(self) -> bool:
        with self._lock:
            return self._unfinished > 0

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for entry in self._entries.values():
                entry.stop.set()
        self._queue.put(None)
        self._thread.join()

    def _work_off(self) -> None:
        while (entry := self._queue.get()) is not None:
            try:
                self._run(entry)
            finally:
                self._forget(entry)
                with self._lock:
                    self._unfinished -= 1

    def _run(self, entry: _Entry) -> None:
        attempt = 1
        while not entry.stop.is_set():
            try:
                with carrying(entry.job.traceparent):
                    in_own_thread(partial(self._work, entry.job, entry.stop.is_set))
                # Forgotten first: a launch that comes from now on makes a job of its own and is not lost.
                self._forget(entry)
                with carrying(entry.job.traceparent):
                    self._on_done(entry.job)
            except JobStopped:
                return
            except RetryableError as error:
                delay_s = self._retries.delay_s(attempt=attempt)
                if delay_s is None:
                    self._fail(entry, error)
                    return
                entry.stop.wait(delay_s)
                attempt += 1
            # Whatever a job dies of is somebody else's to judge; the thread and the other jobs live on.
            except Exception as error:  # noqa: BLE001
                self._fail(entry, error)
                return
            else:
                return

    def _fail(self, entry: _Entry, error: Exception) -> None:
        self._forget(entry)
        with carrying(entry.job.traceparent):
            self._on_failed(entry.job, error)

    def _forget(self, entry: _Entry) -> None:
        with self._lock:
            key = (entry.job.tenant, entry.job.name)
            if self._entries.get(key) is entry:
                del self._entries[key]
