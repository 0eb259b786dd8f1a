"""What the launcher asks of the cluster's API, and nothing more. The one that knows the client library."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

import urllib3
from kubernetes import client, config, watch

from baldistill.errors import DependencyUnavailable, InvalidInput, PermanentError
from baldistill.jobs.cluster.manifests import LAUNCHED_BY, LAUNCHED_LABEL, Manifest

_LAUNCHED = f"{LAUNCHED_LABEL}={LAUNCHED_BY}"
# Connecting, and an answer's next byte.
_TIMEOUT_S = (5, 30)
# A watch ends by itself after this, so that a connection that died silently is noticed.
_WATCH_S = 30
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class ClusterRefused(PermanentError):
    """The API refuses what the launcher asks: its role, its template or a quota. A person has to look."""

    def __init__(self, *, what: str, status: int, reason: str) -> None:
        super().__init__(f"the cluster refuses to {what} ({status}): {reason}")
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Jobs at one moment. version: where a watch goes on from."""

    jobs: list[Manifest]
    version: str


class ClusterJobs(Protocol):
    """Jobs of one namespace. Thread-safe. Raises DependencyUnavailable where the API is away, ClusterRefused."""

    def template(self) -> Manifest:
        """Return the CronJob that jobs are made from. Raises InvalidInput where it is not there."""

    def create(self, manifest: Manifest) -> Manifest | None:
        """Create a Job and return it; None where its name is taken."""

    def find(self, name: str) -> Manifest | None:
        """Return a Job, or None."""

    def delete(self, name: str, *, uid: str) -> None:
        """Delete this very Job; its pods are asked to end first. Nothing happens where it is gone."""

    def pods_of(self, name: str) -> list[Manifest]:
        """Return a Job's pods, ended ones included."""

    def listing(self) -> Listing:
        """Return every Job of the launcher."""

    def changes(self, *, since: str) -> Iterator[tuple[str, Manifest]]:
        """Yield (ADDED, MODIFIED or DELETED; the Job) until the watch ends by itself. Raises DependencyUnavailable."""


class ClusterApi:
    """ClusterJobs over the client library. namespace: of the jobs and their template."""

    def __init__(self, api: client.ApiClient, *, namespace: str, template: str) -> None:
        self._api, self._namespace, self._template = api, namespace, template
        self._batch, self._core = client.BatchV1Api(api), client.CoreV1Api(api)

    def template(self) -> Manifest:
        found = self._ask("read the template", self._batch.read_namespaced_cron_job, self._template, self._namespace)
        if found is None:
            place = f"{self._namespace}/{self._template}"
            raise InvalidInput(f"there is no CronJob {place} to make jobs from", field="jobs.kubernetes.template")
        return found

    def create(self, manifest: Manifest) -> Manifest | None:
        create = self._batch.create_namespaced_job
        return self._ask("create a job", create, self._namespace, manifest, none_if=HTTPStatus.CONFLICT)

    def find(self, name: str) -> Manifest | None:
        return self._ask("read a job", self._batch.read_namespaced_job, name, self._namespace)

    def delete(self, name: str, *, uid: str) -> None:
        options = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
        delete = self._batch.delete_namespaced_job
        try:
            self._ask("delete a job", delete, name, self._namespace, body=options)
        except ClusterRefused as error:
            # A later job of this name: ours is gone.
            if error.status != HTTPStatus.CONFLICT:
                raise

    def pods_of(self, name: str) -> list[Manifest]:
        selector = f"batch.kubernetes.io/job-name={name}"
        found = self._ask("list pods", self._core.list_namespaced_pod, self._namespace, label_selector=selector)
        return [] if found is None else list(found["items"])

    def listing(self) -> Listing:
        found = self._ask("list jobs", self._batch.list_namespaced_job, self._namespace, label_selector=_LAUNCHED)
        assert found is not None
        return Listing(jobs=list(found["items"]), version=found["metadata"]["resourceVersion"])

    def changes(self, *, since: str) -> Iterator[tuple[str, Manifest]]:
        # `list_namespaced_job` is read by the library for what it returns; it is not called before the first event.
        stream = watch.Watch().stream(
            self._batch.list_namespaced_job,
            self._namespace,
            label_selector=_LAUNCHED,
            resource_version=since,
            timeout_seconds=_WATCH_S,
            _request_timeout=_TIMEOUT_S[0] + _WATCH_S,
        )
        try:
            for event in stream:
                yield event["type"], event["raw_object"]
        except (client.ApiException, urllib3.exceptions.HTTPError) as error:
            raise DependencyUnavailable(dependency="cluster API", reason=_reason_of(error)) from None

    def _ask(
        self, what: str, call: Any, *arguments: object, none_if: HTTPStatus = HTTPStatus.NOT_FOUND, **named: object
    ) -> Manifest | None:
        try:
            answer = call(*arguments, **named, _preload_content=False, _request_timeout=_TIMEOUT_S)
            document: Mapping[str, Any] = json.loads(answer.data)
        except client.ApiException as error:
            if error.status == none_if:
                return None
            if _may_pass(error.status):
                raise DependencyUnavailable(dependency="cluster API", reason=_reason_of(error)) from None
            raise ClusterRefused(what=what, status=error.status, reason=_reason_of(error)) from None
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise DependencyUnavailable(dependency="cluster API", reason=_reason_of(error)) from None
        return document


def connect_to_cluster(*, namespace: str, template: str) -> ClusterApi:
    """Connect with the pod's service account, or with KUBECONFIG outside of a cluster. namespace: empty: the pod's own.

    Raises InvalidInput.
    """
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            reason = f"this is no pod with a service account, and there is no KUBECONFIG either ({error})"
            raise InvalidInput(reason, field="jobs.launcher") from None
    return ClusterApi(client.ApiClient(configuration), namespace=namespace or _own_namespace(), template=template)


def _own_namespace() -> str:
    try:
        return _OWN_NAMESPACE.read_text().strip()
    except OSError:
        raise InvalidInput("outside of a cluster it must be set", field="jobs.kubernetes.namespace") from None


def _may_pass(status: int | None) -> bool:
    """Tell whether time mends it: a server that starts or is overloaded, a token that is just being renewed."""
    passing = {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}
    return status is None or status in passing or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _reason_of(error: Exception) -> str:
    if not isinstance(error, client.ApiException):
        return str(error) or type(error).__name__
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
