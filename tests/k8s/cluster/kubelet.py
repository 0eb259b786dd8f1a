"""There is no kubelet: the test says about pods what one would say. Pods that are deleted end, as processes on SIGTERM do."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
from typing import Any

from kubernetes import client

from tests.k8s.cluster.admin import Admin

SIGTERM_CODE = 143
_POLL_S = 0.2


class Kubelet:
    """start: from then on deleted pods come to their end."""

    def __init__(self, admin: Admin) -> None:
        self._core = admin.core
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._end_deleted, name="kubelet", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def run(self, pod: dict[str, Any]) -> None:
        """Say that a pod is running and ready."""
        states = [_container(name, {"running": {"startedAt": _now()}}, ready=True) for name in _names(pod)]
        self._say(pod, {"phase": "Running", "conditions": [_condition("Ready")], "containerStatuses": states})

    def end(self, pod: dict[str, Any], *, code: int, message: str = "", disrupted: bool = False) -> None:
        """Say that a pod's containers ended. disrupted: by somebody who drains the node."""
        ended = {
            "exitCode": code,
            "message": message,
            "reason": "Completed" if code == 0 else "Error",
            "finishedAt": _now(),
        }
        conditions = [{**_condition("Ready"), "status": "False"}]
        if disrupted:
            conditions.append({**_condition("DisruptionTarget"), "reason": "EvictionByEvictionAPI"})
        states = [_container(name, {"terminated": ended}, ready=False) for name in _names(pod)]
        phase = "Succeeded" if code == 0 else "Failed"
        self._say(pod, {"phase": phase, "conditions": conditions, "containerStatuses": states})

    def _say(self, pod: dict[str, Any], status: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        self._core.patch_namespaced_pod_status(metadata["name"], metadata["namespace"], {"status": status})

    def _end_deleted(self) -> None:
        while not self._stop.wait(_POLL_S):
            answer = self._core.list_pod_for_all_namespaces(_preload_content=False)
            for pod in json.loads(answer.data)["items"]:
                if pod["metadata"].get("deletionTimestamp") and pod["spec"].get("nodeName"):
                    self._end_one(pod)

    def _end_one(self, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        # Gone meanwhile, or changed: the next round sees.
        with contextlib.suppress(client.ApiException):
            if pod["status"]["phase"] in {"Pending", "Running"}:
                self.end(pod, code=SIGTERM_CODE)
            self._core.delete_namespaced_pod(metadata["name"], metadata["namespace"], grace_period_seconds=0)


def _names(pod: dict[str, Any]) -> list[str]:
    return [container["name"] for container in pod["spec"]["containers"]]


def _container(name: str, state: dict[str, Any], *, ready: bool) -> dict[str, Any]:
    return {"name": name, "image": "said", "imageID": "said", "ready": ready, "restartCount": 0, "state": state}


def _condition(kind: str) -> dict[str, str]:
    return {"type": kind, "status": "True", "lastTransitionTime": _now()}


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
