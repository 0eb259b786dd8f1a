"""How a Kubernetes Job and its pods stand, and what that says about the work. Pure (ADR 45)."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from baldistill.errors import DependencyUnavailable, RetryableError
from baldistill.jobs.cluster.manifests import CONTAINER, Manifest
from baldistill.jobs.process_work import JobFailing, JobGaveUp
from baldistill.runtime.launching import VerdictOnData


class Phase(enum.Enum):
    """ACTIVE: suspended, waiting or at work. ENDING: deleted, its pods not yet gone."""

    ACTIVE = "active"
    COMPLETE = "complete"
    FAILED = "failed"
    ENDING = "ending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A Job as it was seen last. uid: tells it from a later one of its name.   reason: why it failed."""

    uid: str
    phase: Phase
    reason: str = ""

    @classmethod
    def of(cls, job: Manifest) -> Self:
        """Read a Job's status."""
        metadata, status = job["metadata"], job.get("status") or {}
        if metadata.get("deletionTimestamp"):
            return cls(uid=metadata["uid"], phase=Phase.ENDING)
        for condition in status.get("conditions") or []:
            if condition["status"] == "True" and condition["type"] in {"Complete", "Failed"}:
                reason = f"{condition.get('reason', '')}: {condition.get('message', '')}"
                return cls(uid=metadata["uid"], phase=Phase(condition["type"].lower()), reason=reason)
        return cls(uid=metadata["uid"], phase=Phase.ACTIVE)


class JobPodFailed(RetryableError):
    """A pod ended without saying how, e.g. because it was out of memory."""

    def __init__(self, *, job: str, reason: str) -> None:
        super().__init__(f"the pod of job {job} failed: {reason}; `kubectl logs job/{job}` has its last lines")
        self.job = job


def failure_of(standing: Standing, pods: Sequence[Manifest], *, name: str) -> Exception:
    """Return what a failed Job's work came to, by the last word of its newest pod."""
    for pod in sorted(pods, key=lambda one: str(one["metadata"].get("creationTimestamp", "")), reverse=True):
        terminated = _terminated(pod)
        if terminated is None:
            continue
        said = _last_word(str(terminated.get("message") or ""))
        if said is not None:
            return _error_of(said, name=name)
        how = f"exit code {terminated.get('exitCode')} ({terminated.get('reason', 'no reason')})"
        return JobPodFailed(job=name, reason=f"{how}; {standing.reason}")
    return JobPodFailed(job=name, reason=standing.reason or "its pods are gone")


def _terminated(pod: Manifest) -> Mapping[str, Any] | None:
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        if container["name"] == CONTAINER:
            terminated: Mapping[str, Any] | None = (container.get("state") or {}).get("terminated")
            return terminated
    return None


def _last_word(message: str) -> Mapping[str, str] | None:
    try:
        said = json.loads(message)
    except ValueError:
        # None, or cut off by the kubelet's limit.
        return None
    return said if isinstance(said, dict) and "how" in said else None


def _error_of(said: Mapping[str, str], *, name: str) -> Exception:
    match said["how"]:
        case "verdict":
            return VerdictOnData(said["reason"])
        case "unavailable":
            return DependencyUnavailable(dependency=said["dependency"], reason=said["reason"])
        case "retryable":
            return JobFailing(f"{said['error']}: {said['reason']}")
        case "permanent":
            return JobGaveUp(error=said["error"], reason=said["reason"])
        case how:
            return JobPodFailed(job=name, reason=f"its last word was '{how}'")
