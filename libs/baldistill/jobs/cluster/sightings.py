"""How every launched Job stands, kept by one watch per process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from baldistill.errors import BalDistillError
from baldistill.jobs.cluster.api import ClusterJobs
from baldistill.jobs.cluster.manifests import Manifest
from baldistill.jobs.cluster.phases import Standing

_AFTER_FAULT_S = 2.0

_log = structlog.get_logger(__name__)


class JobSightings:
    """Lists the launcher's Jobs, then follows their changes, and lists again when a watch ends. Thread-safe."""

    def __init__(self, jobs: ClusterJobs, *, after_fault_s: float = _AFTER_FAULT_S) -> None:
        self._jobs = jobs
        self._after_fault_s = after_fault_s
        self._known: dict[str, Standing] = {}
        self._noted_at_s: dict[str, float] = {}
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="job-sightings", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Watch no more. The thread ends with its watch, at the latest with the process. Idempotent."""
        self._stop.set()

    def note(self, job: Manifest) -> Standing:
        """Remember a Job that was just created or read, before the watch tells of it."""
        standing = Standing.of(job)
        with self._changed:
            name = job["metadata"]["name"]
            self._known[name] = standing
            self._noted_at_s[name] = time.monotonic()
        return standing

    def wait(self, name: str, *, until: Callable[[Standing | None], bool], timeout_s: float) -> Standing | None:
        """Return how a Job stands, None where it is gone; at once where `until` holds, else after `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: until(self._known.get(name)), timeout=timeout_s)
            return self._known.get(name)

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow_once()
            except BalDistillError as error:
                _log.warning("jobs of the cluster not seen", reason=str(error))
                self._stop.wait(self._after_fault_s)

    def _follow_once(self) -> None:
        began_at_s = time.monotonic()
        listing = self._jobs.listing()
        with self._changed:
            # What was noted while the list was on its way may be missing in it.
            fresh = {name: self._known[name] for name, at_s in self._noted_at_s.items() if at_s >= began_at_s}
            self._known = {job["metadata"]["name"]: Standing.of(job) for job in listing.jobs} | fresh
            self._noted_at_s = {name: at_s for name, at_s in self._noted_at_s.items() if name in fresh}
            self._changed.notify_all()
        for change, job in self._jobs.changes(since=listing.version):
            self._take(change, job)
            if self._stop.is_set():
                return

    def _take(self, change: str, job: Manifest) -> None:
        name, standing = job["metadata"]["name"], Standing.of(job)
        with self._changed:
            known = self._known.get(name)
            if change != "DELETED":
                self._known[name] = standing
            elif known is not None and known.uid == standing.uid:
                del self._known[name]
            self._changed.notify_all()
