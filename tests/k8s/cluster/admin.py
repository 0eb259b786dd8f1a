"""What an administrator does to the test's cluster, by the API and by kubectl."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from kubernetes import client, config

from baldistill.local_stack.kubernetes.programs import kubernetes_program

_T = TypeVar("_T")
# Controllers act within a second; a machine that is busy with other things takes longer.
_WAIT_S = 300.0
_POLL_S = 0.1


def eventually(what: str, look: Callable[[], _T | None], *, timeout_s: float = _WAIT_S) -> _T:
    """Return what `look` returns as soon as it is something. Raises AssertionError after a long time."""
    give_up_at_s = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < give_up_at_s, f"this did not come about in {timeout_s:.0f} s: {what}"
        time.sleep(_POLL_S)


class Admin:
    """Answers are plain documents, as in manifests."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self.configuration = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=self.configuration)
        self.api = client.ApiClient(self.configuration)
        self.core = client.CoreV1Api(self.api)
        self.batch = client.BatchV1Api(self.api)
        self.apps = client.AppsV1Api(self.api)

    def close(self) -> None:
        self.api.close()

    def kubectl(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(kubernetes_program("kubectl")), "--kubeconfig", str(self._kubeconfig), *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=120)

    def apply(self, documents: Sequence[Mapping[str, Any]]) -> subprocess.CompletedProcess[str]:
        """Apply on the server's side, as `kubectl apply --server-side -k` does."""
        text = yaml.safe_dump_all(list(documents), sort_keys=False)
        return self.kubectl("apply", "--server-side", "--field-manager=k8s-test", "-f", "-", given=text)

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        """Return what `kubectl get` finds."""
        asked = self.kubectl("get", *arguments, "--output=json")
        assert asked.returncode == 0, asked.stderr
        answer = json.loads(asked.stdout)
        items: list[dict[str, Any]] = answer.get("items", [answer])
        return items

    def pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        answer = self.core.list_namespaced_pod(namespace, label_selector=selector, _preload_content=False)
        items: list[dict[str, Any]] = json.loads(answer.data)["items"]
        return items

    def token_of(self, account: str, namespace: str) -> str:
        asked = self.kubectl("create", "token", account, "--namespace", namespace)
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.strip()

    def can(self, account: str, namespace: str, *what: str, elsewhere: str | None = None) -> bool:
        """Ask the API server whether a service account may do something."""
        who = f"--as=system:serviceaccount:{namespace}:{account}"
        return self.kubectl("auth", "can-i", *what, "--namespace", elsewhere or namespace, who).stdout.strip() == "yes"

    def wait_for_system(self) -> None:
        eventually("the system's namespaces", lambda: self.kubectl("get", "serviceaccount", "default").returncode == 0)

    def make_definition(self, definition: Mapping[str, Any]) -> None:
        done = self.apply([definition])
        assert done.returncode == 0, done.stderr
        name = definition["metadata"]["name"]
        waited = self.kubectl(
            "wait", "--for=condition=Established", f"customresourcedefinition/{name}", "--timeout=60s"
        )
        assert waited.returncode == 0, waited.stderr
