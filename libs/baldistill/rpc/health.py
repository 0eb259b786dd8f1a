"""Health by face: a process that lives is not restarted because something else is away (DESIGN 4).

'' (the empty name) is liveness: the process only. Each service name is NOT_SERVING only while what *it* needs is away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

_log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """One thing that a service needs. probe: raises where it is away; may block."""

    name: str
    probe: Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    reason: str | None
    at_s: float


class HealthFaces:
    """Probes what services need, in the background. Thread-safe. Checks of one name are one check.

    every_s: pause between two probes of one check.   timeout_s: a probe that takes longer is a failure while it lasts.
    """

    def __init__(
        self, faces: Mapping[str, Sequence[HealthCheck]], *, every_s: float = 5.0, timeout_s: float = 2.0
    ) -> None:
        self._needs = {service: [check.name for check in checks] for service, checks in faces.items()}
        self._checks = {check.name: check for checks in faces.values() for check in checks}
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._results: dict[str, _Result] = {}
        self._asked_at_s: dict[str, float] = {}
        self._stop = threading.Event()
        self._listeners: list[Callable[[str, bool], None]] = []
        self._told: dict[str, bool] = {}

    @property
    def services(self) -> Sequence[str]:
        return tuple(self._needs)

    def listen(self, listener: Callable[[str, bool], None]) -> None:
        """Have `listener(service, is_serving)` called at each change, and at first. Called before `start`."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Begin to probe. The threads end with the process: a probe that hangs holds nothing up."""
        for check in self._checks.values():
            threading.Thread(target=self._probe, args=(check,), name=f"probe-{check.name}", daemon=True).start()
        threading.Thread(target=self._watch, name="health", daemon=True).start()

    def close(self) -> None:
        """Stop probing. Idempotent."""
        self._stop.set()

    def away(self, service: str) -> dict[str, str]:
        """Return what a service needs and lacks now, by the check's name: why."""
        reasons = {name: self._reason(name) for name in self._needs[service]}
        return {name: reason for name, reason in reasons.items() if reason is not None}

    def all_away(self) -> dict[str, dict[str, str]]:
        """Return what each service lacks; without an entry for those that lack nothing."""
        return {service: lacking for service in self._needs if (lacking := self.away(service))}

    def checks(self) -> dict[tuple[str, str], bool]:
        """Return whether each thing that a service needs answers, by (service, check)."""
        return {(service, name): self._reason(name) is None for service, names in self._needs.items() for name in names}

    def _reason(self, name: str) -> str | None:
        result, asked_at_s = self._results.get(name), self._asked_at_s.get(name)
        if asked_at_s is not None and (result is None or asked_at_s > result.at_s):
            waited_s = time.monotonic() - asked_at_s
            if waited_s > self._timeout_s:
                return f"no answer within {self._timeout_s:g} s"
        return "not asked yet" if result is None else result.reason

    def _probe(self, check: HealthCheck) -> None:
        while not self._stop.is_set():
            self._asked_at_s[check.name] = time.monotonic()
            reason = None
            try:
                check.probe()
            # Whatever a probe raises is its answer.
            except Exception as error:  # noqa: BLE001
                reason = str(error) or type(error).__name__
            self._results[check.name] = _Result(reason=reason, at_s=time.monotonic())
            self._stop.wait(self._every_s)

    def _watch(self) -> None:
        while not self._stop.is_set():
            for service in self._needs:
                lacking = self.away(service)
                is_serving = not lacking
                if self._told.get(service) is not is_serving:
                    self._tell(service, is_serving, lacking)
            self._stop.wait(_LOOK_EVERY_S)

    def _tell(self, service: str, is_serving: bool, lacking: Mapping[str, str]) -> None:  # noqa: FBT001
        # At the start everything is "not asked yet", which is no news.
        if is_serving or service in self._told:
            _log.info("health changed", face=service, serving=is_serving, lacking=dict(lacking))
        self._told[service] = is_serving
        for listener in self._listeners:
            listener(service, is_serving)
