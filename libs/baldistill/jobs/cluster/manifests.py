"""What a job is called in the cluster, and its manifest: a function of the template and the job. Pure (ADR 45)."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from baldistill.runtime.launching import Job

# An object of the API as its JSON is.
Manifest: TypeAlias = Mapping[str, Any]

TENANT_LABEL = "baldistill.io/tenant"
RUN_LABEL = "baldistill.io/run"
STAGE_LABEL = "baldistill.io/stage"
KIND_LABEL = "baldistill.io/job-kind"
# What the launcher asks the API for: jobs of its own and no others.
LAUNCHED_LABEL = "baldistill.io/launched-by"
LAUNCHED_BY = "trainer"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
JOB_ANNOTATION = "baldistill.io/job"

# The container that does the work, in the template as in every process of ours.
CONTAINER = "main"

# A pod's name is its Job's and six characters more; a DNS label has 63 (RFC 1123).
_LONGEST_NAME = 57
_DIGEST_DIGITS = 8
_LONGEST_LABEL = 63


def name_in_cluster(job: Job) -> str:
    """Return the Job's name: readable, a DNS label, and another one for another tenant's job of the same name."""
    digest = hashlib.sha256(f"{job.tenant}/{job.name}".encode()).hexdigest()[:_DIGEST_DIGITS]
    words = re.sub(r"[^a-z0-9]+", "-", job.name.lower()).strip("-")
    return f"{words[: _LONGEST_NAME - _DIGEST_DIGITS - 1].rstrip('-')}-{digest}"


def labels_of(job: Job) -> dict[str, str]:
    """Return what a job is found by: `kubectl get jobs -l baldistill.io/run=...`."""
    return {
        LAUNCHED_LABEL: LAUNCHED_BY,
        TENANT_LABEL: _label_value(job.tenant),
        RUN_LABEL: _label_value(job.run_id),
        STAGE_LABEL: str(job.stage),
        KIND_LABEL: job.kind.value,
    }


def job_manifest(template: Manifest, job: Job, *, queue: str = "") -> dict[str, Any]:
    """Return the Job to create. template: a CronJob, whose `jobTemplate` it is made from.   queue: Kueue's, if any.

    Raises ValueError where the template has no container of ours.
    """
    made = copy.deepcopy(dict(template["spec"]["jobTemplate"]))
    metadata, spec = made.get("metadata", {}), made["spec"]
    labels = labels_of(job)
    metadata["labels"] = {**metadata.get("labels", {}), **labels}
    metadata["annotations"] = {**metadata.get("annotations", {}), JOB_ANNOTATION: job.to_json()}
    metadata["name"] = name_in_cluster(job)
    metadata["namespace"] = template["metadata"]["namespace"]
    if queue:
        # Kueue starts it when its quota has room; until then it is suspended.
        metadata["labels"][QUEUE_LABEL] = queue
        spec["suspend"] = True
    pod = spec["template"]
    pod_metadata = pod.setdefault("metadata", {})
    pod_metadata["labels"] = {**pod_metadata.get("labels", {}), **labels}
    _container_of(pod["spec"])["args"] = ["--job", job.to_json()]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _container_of(pod_spec: Manifest) -> dict[str, Any]:
    for container in pod_spec["containers"]:
        if container["name"] == CONTAINER:
            found: dict[str, Any] = container
            return found
    raise ValueError(f"the template of jobs has no container named '{CONTAINER}'")


def _label_value(text: str) -> str:
    """Return a name as a label's value, which ends with a letter or digit. Names of runs and tenants are no longer."""
    return text[:_LONGEST_LABEL].rstrip("-_.")
