"""Pods as processes: what a node with an image would do, as far as a training's pod is concerned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.k8s.cluster.admin import Admin
from tests.k8s.cluster.kubelet import Kubelet

# The command of the template, with the last word left where the test reads it.
_COMMAND = """
import sys
from pathlib import Path
from baldistill.jobs.cluster.pod_main import run_job_pod
from services.trainer.job_pod import work
sys.exit(run_job_pod(sys.argv[2:], work, last_word=Path(sys.argv[1])))
"""
_POLL_S = 0.1


class Machine:
    """Runs each training's pod of a namespace that has a node, and says how it ended. environment: of the processes."""

    def __init__(
        self, admin: Admin, kubelet: Kubelet, *, namespace: str, folder: Path, environment: Mapping[str, str]
    ) -> None:
        self._admin, self._kubelet = admin, kubelet
        self._namespace, self._folder, self._environment = namespace, folder, environment
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: set[str] = set()
        self._lost: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="machine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def lose(self, pod: str) -> None:
        """Lose the machine under a pod: its process is killed, and the pod marked as disrupted."""
        self._lost.add(pod)
        self.processes[pod].send_signal(signal.SIGKILL)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for process in self.processes.values():
            process.kill()
            process.wait()

    def _work(self) -> None:
        while not self._stop.wait(_POLL_S):
            for pod in self._admin.pods(self._namespace, "app.kubernetes.io/name=training"):
                name = pod["metadata"]["name"]
                if name not in self.processes and pod["spec"].get("nodeName"):
                    self.processes[name] = self._begin(pod)
                    self._kubelet.run(pod)
                elif name in self.processes and name not in self._ended and self.processes[name].poll() is not None:
                    self._ended.add(name)
                    self._tell(pod)

    def _begin(self, pod: dict[str, Any]) -> subprocess.Popen[bytes]:
        name = pod["metadata"]["name"]
        (container,) = pod["spec"]["containers"]
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-c", _COMMAND, str(self._folder / f"{name}.word"), *container["args"]],
                env=os.environ | dict(self._environment),
                stdout=log,
                stderr=log,
            )

    def _tell(self, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        code = self.processes[name].returncode
        word = self._folder / f"{name}.word"
        self._kubelet.end(
            pod,
            code=128 - code if code < 0 else code,
            message=word.read_text() if word.exists() else "",
            disrupted=name in self._lost,
        )
