"""A job as a Kubernetes Job: its name, labels and manifest, what its status says, what its pod says last. No cluster."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import DependencyUnavailable, InvalidInput
from baldistill.jobs.cluster.manifests import job_manifest, labels_of, name_in_cluster
from baldistill.jobs.cluster.phases import JobPodFailed, Phase, Standing, failure_of
from baldistill.jobs.cluster.pod_main import STOPPED, run_job_pod
from baldistill.runtime.launching import Job, JobStopped, ShouldStop, VerdictOnData

SPEC = ArtifactRef(key="spec.json", sha256="0" * 64, size_bytes=2)
JOB = Job(tenant="acme", run_id="tickets-1a2b3c4d", epoch=3, stage=2, spec=SPEC)
TEMPLATE: dict[str, Any] = {
    "metadata": {"name": "training", "namespace": "ml"},
    "spec": {
        "jobTemplate": {
            "metadata": {"labels": {"app": "training"}},
            "spec": {
                "template": {"metadata": {"labels": {"app": "training"}}, "spec": {"containers": [{"name": "main"}]}}
            },
        }
    },
}


def test_a_name_is_readable_a_dns_label_and_another_for_another_tenant() -> None:
    assert name_in_cluster(JOB).startswith("train-tickets-1a2b3c4d-2-")
    other = dataclasses.replace(JOB, tenant="umbrella")
    assert name_in_cluster(other) != name_in_cluster(JOB)
    long = dataclasses.replace(JOB, run_id="a.b_" * 16)
    for job in (JOB, other, long):
        name = name_in_cluster(job)
        assert len(name) <= 57
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert name[0].isalnum()
        assert name[-1].isalnum()
    # Epoch and trace are no part of what the job is.
    assert name_in_cluster(dataclasses.replace(JOB, epoch=9)) == name_in_cluster(JOB)


def test_a_manifest_is_the_template_with_name_labels_and_the_job_itself() -> None:
    made = job_manifest(TEMPLATE, JOB)
    assert (made["kind"], made["metadata"]["namespace"]) == ("Job", "ml")
    assert made["metadata"]["labels"] == {"app": "training", **labels_of(JOB)}
    assert made["spec"]["template"]["metadata"]["labels"] == {"app": "training", **labels_of(JOB)}
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert Job.from_json(container["args"][1]) == JOB
    assert "suspend" not in made["spec"]
    assert "args" not in TEMPLATE["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]


def test_with_a_queue_it_is_made_suspended() -> None:
    made = job_manifest(TEMPLATE, JOB, queue="gpus")
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert made["spec"]["suspend"] is True


@pytest.mark.parametrize(
    ("status", "deleted", "phase"),
    [
        ({}, False, Phase.ACTIVE),
        ({"active": 1, "conditions": [{"type": "Suspended", "status": "True"}]}, False, Phase.ACTIVE),
        ({"conditions": [{"type": "FailureTarget", "status": "True"}]}, False, Phase.ACTIVE),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, False, Phase.COMPLETE),
        ({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}, False, Phase.FAILED),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, True, Phase.ENDING),
    ],
)
def test_how_a_job_stands(status: dict[str, Any], deleted: bool, phase: Phase) -> None:
    metadata = {"uid": "u", **({"deletionTimestamp": "2026-11-25T00:00:00Z"} if deleted else {})}
    assert Standing.of({"metadata": metadata, "status": status}).phase is phase


def pod(created: str, *, message: str = "", code: int = 1) -> dict[str, Any]:
    terminated = {"exitCode": code, "message": message, "reason": "Error"}
    states = [{"name": "sidecar"}, {"name": "main", "state": {"terminated": terminated}}]
    return {"metadata": {"creationTimestamp": created}, "status": {"containerStatuses": states}}


def test_the_newest_pods_last_word_counts() -> None:
    failed = Standing(uid="u", phase=Phase.FAILED, reason="BackoffLimitExceeded")
    word = json.dumps({"how": "verdict", "error": "NoTrainingRows", "reason": "nothing to train on"})
    pods = [pod("2026-11-25T00:00:01Z", message=word), pod("2026-11-25T00:00:00Z")]
    error = failure_of(failed, pods, name="j")
    assert isinstance(error, VerdictOnData)
    assert str(error) == "nothing to train on"


@pytest.mark.parametrize("message", ["", "Killed", '{"how": "ver', "[1]"])
def test_a_pod_without_a_last_word_crashed(message: str) -> None:
    failed = Standing(uid="u", phase=Phase.FAILED, reason="BackoffLimitExceeded")
    error = failure_of(failed, [pod("2026-11-25T00:00:00Z", message=message, code=137)], name="j")
    assert isinstance(error, JobPodFailed)
    assert "137" in str(error)
    assert isinstance(failure_of(failed, [], name="j"), JobPodFailed)


def failing(error: Exception | None) -> Any:
    def work(_job: Job, _should_stop: ShouldStop) -> None:
        if error is not None:
            raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "how"),
    [
        (None, 0, "done"),
        (JobStopped(), STOPPED, "stopped"),
        (InvalidInput("no label", field="label"), 65, "verdict"),
        (DependencyUnavailable(dependency="store", reason="away"), 69, "unavailable"),
        (ZeroDivisionError("by zero" * 1000), 70, "permanent"),
    ],
)
def test_a_pod_leaves_its_last_word(tmp_path: Path, error: Exception | None, code: int, how: str) -> None:
    last_word = tmp_path / "termination-log"
    assert run_job_pod(["--job", JOB.to_json()], failing(error), last_word=last_word) == code
    assert json.loads(last_word.read_text())["how"] == how
    # The kubelet reads no more.
    assert last_word.stat().st_size <= 4096


def test_a_pod_that_is_asked_to_end_tells_its_work(tmp_path: Path) -> None:
    def work(_job: Job, should_stop: ShouldStop) -> None:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        while not should_stop():
            pass
        raise JobStopped

    before = signal.getsignal(signal.SIGTERM)
    try:
        assert run_job_pod(["--job", JOB.to_json()], work, last_word=tmp_path / "word") == STOPPED
    finally:
        signal.signal(signal.SIGTERM, before)
