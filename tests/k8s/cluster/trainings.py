"""Trainings launched with a trainer's own service account, and nobody else's rights."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes import client

from baldistill.artifacts.ports import ArtifactRef
from baldistill.jobs.cluster.api import ClusterApi
from baldistill.jobs.cluster.manifests import name_in_cluster
from baldistill.jobs.cluster.sightings import JobSightings
from baldistill.jobs.cluster.work import ClusterWork
from baldistill.runtime.launching import Job, JobLeft
from tests.k8s.cluster.admin import Admin, eventually
from tests.k8s.cluster.tenancy import Applied

_SPEC = ArtifactRef(key="tenants/acme/runs/r/spec.json", sha256="0" * 64, size_bytes=2)


def training(run_id: str, *, tenant: str = "acme", stage: int = 1, epoch: int = 1) -> Job:
    return Job(tenant=tenant, run_id=run_id, epoch=epoch, stage=stage, spec=_SPEC)


class Launched:
    """A trainer's launcher. begin: works on a job in a thread; result: what it came to."""

    def __init__(self, admin: Admin, applied: Applied, *, queue: str = "") -> None:
        self.namespace = applied.namespace
        configuration = client.Configuration(host=admin.configuration.host)
        configuration.ssl_ca_cert = admin.configuration.ssl_ca_cert
        token = admin.token_of("trainer", applied.namespace)
        configuration.api_key = {"BearerToken": f"Bearer {token}"}
        self._client = client.ApiClient(configuration)
        self.api = ClusterApi(self._client, namespace=applied.namespace, template="training")
        self._sightings = JobSightings(self.api, after_fault_s=0.1)
        self._sightings.start()
        self.work = ClusterWork(self.api, sightings=self._sightings, queue=queue, poll_s=0.1)
        self._admin = admin
        self._leave = threading.Event()
        self._wanted: dict[str, threading.Event] = {}
        self._results: dict[str, Exception | None] = {}
        self._threads: dict[str, threading.Thread] = {}

    def who(self) -> str:
        """Return whom the API server takes this launcher for."""
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        review = client.AuthenticationV1Api(self._client).create_self_subject_review(asked)
        return str(review.status.user_info.username)

    def begin(self, job: Job) -> str:
        """Have a job done. Return its name in the cluster, once it is there."""
        name = name_in_cluster(job)
        self._wanted[name] = threading.Event()
        self._results.pop(name, None)
        self._threads[name] = threading.Thread(target=self._do, args=(job, name), name=name, daemon=True)
        self._threads[name].start()
        eventually(f"job {name}", lambda: self.api.find(name) or name in self._results)
        return name

    def stop(self, name: str) -> None:
        self._wanted[name].set()

    def leave(self) -> None:
        """End as a trainer that is rolled: what works goes on."""
        self._leave.set()
        for thread in self._threads.values():
            thread.join()

    def result(self, name: str) -> Exception | None:
        self._threads[name].join(timeout=300)
        assert name in self._results, f"{name} is still at work"
        return self._results[name]

    def pod_of(self, name: str, *, other_than: str = "") -> dict[str, Any]:
        """Return the Job's newest pod that has a node."""

        def look() -> dict[str, Any] | None:
            for pod in self._admin.pods(self.namespace, f"batch.kubernetes.io/job-name={name}"):
                is_new = pod["metadata"]["name"] != other_than and not pod["metadata"].get("deletionTimestamp")
                if is_new and pod["spec"].get("nodeName") and pod["status"]["phase"] in {"Pending", "Running"}:
                    return pod
            return None

        return eventually(f"a pod of {name} on a node", look)

    def close(self) -> None:
        self.leave()
        self._sightings.close()
        for name in self._threads:
            self._admin.kubectl("delete", "job", name, "-n", self.namespace, "--ignore-not-found", "--wait=false")
        self._client.close()

    def _do(self, job: Job, name: str) -> None:
        def should_stop() -> bool:
            if self._leave.is_set():
                raise JobLeft(name)
            return self._wanted[name].is_set()

        try:
            self.work(job, should_stop)
            self._results[name] = None
        except Exception as error:  # noqa: BLE001  (the test asks for it)
            self._results[name] = error


@contextmanager
def launcher_of(admin: Admin, applied: Applied, *, queue: str = "") -> Iterator[Launched]:
    launched = Launched(admin, applied, queue=queue)
    try:
        yield launched
    finally:
        launched.close()
