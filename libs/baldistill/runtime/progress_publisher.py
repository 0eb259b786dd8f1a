"""Progress as facts for whoever watches a run: the newest of each step, about once a second, never in the work's way."""

from __future__ import annotations

import threading

import structlog

from baldistill.errors import RetryableError
from baldistill.events.facts import ProgressReported
from baldistill.runtime.handlers import PublishFacts
from baldistill.runtime.progress import ProgressSink, StageWork

_INTERVAL_S = 1.0
# Steps of different runs that one process can be at between two rounds; what is beyond is not reported.
_MOST_STEPS = 256

_log = structlog.get_logger(__name__)


class ProgressPublisher:
    """A ProgressSource over the bus. `start` it once; `close` sends what is left, if the broker takes it at once."""

    def __init__(self, publish: PublishFacts, *, interval_s: float = _INTERVAL_S) -> None:
        self._publish = publish
        self._interval_s = interval_s
        self._newest: dict[tuple[str, str, int, str], ProgressReported] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def __call__(self, work: StageWork, /) -> ProgressSink:
        def sink(*, step: str, done: int, total: int, unit: str) -> None:
            self._keep(
                ProgressReported(
                    tenant=work.tenant,
                    run_id=work.run_id,
                    epoch=work.epoch,
                    stage=work.stage,
                    step=step,
                    done=done,
                    total=total,
                    unit=unit,
                )
            )

        return sink

    def close(self) -> None:
        """Publish once more and stop; a broker that is away is not waited for. Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self._interval_s)

    def _keep(self, fact: ProgressReported) -> None:
        key = (fact.tenant, fact.run_id, fact.stage, fact.step)
        with self._lock:
            if key in self._newest or len(self._newest) < _MOST_STEPS:
                self._newest[key] = fact

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._publish_newest()
        self._publish_newest()

    def _publish_newest(self) -> None:
        with self._lock:
            facts, self._newest = list(self._newest.values()), {}
        if not facts:
            return
        try:
            self._publish(facts)
        except RetryableError as error:
            # The next round has newer figures; these are of no use to anybody by then.
            _log.debug("progress not published", reason=str(error))
        # Whatever is wrong with one fact, the thread lives on and the next steps are seen.
        except Exception as error:  # noqa: BLE001
            _log.warning("progress not published", error=type(error).__name__, reason=str(error))
