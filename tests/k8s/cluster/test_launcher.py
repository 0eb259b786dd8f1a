"""The launcher makes, finds, watches and deletes real Jobs, with the rights of its own service account and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baldistill.errors import DependencyUnavailable
from baldistill.jobs.cluster.phases import JobPodFailed
from baldistill.jobs.process_work import JobFailing, JobGaveUp
from baldistill.runtime.launching import Job, JobDisrupted, JobLeft, JobStopped, VerdictOnData
from tests.k8s.cluster.admin import Admin, eventually
from tests.k8s.cluster.kubelet import SIGTERM_CODE, Kubelet
from tests.k8s.cluster.tenancy import Applied
from tests.k8s.cluster.trainings import launcher_of, training


def test_a_training_is_a_job_that_is_found_by_its_run_and_done_when_its_pod_is(
    admin: Admin, production: Applied, kubelet: Kubelet
) -> None:
    with launcher_of(admin, production) as launched:
        assert launched.who() == f"system:serviceaccount:{production.namespace}:trainer"
        job = training("mail-1a2b3c4d", stage=2)
        name = launched.begin(job)
        labels = "baldistill.io/run=mail-1a2b3c4d,baldistill.io/tenant=acme,baldistill.io/stage=2"
        (found,) = admin.get("jobs", "-n", production.namespace, "-l", labels)
        assert found["metadata"]["name"] == name
        pod = launched.pod_of(name)
        (container,) = pod["spec"]["containers"]
        assert container["command"] == ["python", "-m", "services.trainer.job_pod"]
        assert Job.from_json(container["args"][1]) == job
        kubelet.run(pod)
        kubelet.end(pod, code=0)
        assert launched.result(name) is None


def test_two_tenants_runs_of_one_name_have_a_job_each(admin: Admin, production: Applied, kubelet: Kubelet) -> None:
    with launcher_of(admin, production) as launched:
        names = {launched.begin(training("same", tenant=tenant)) for tenant in ("acme", "umbrella")}
        assert len(names) == 2


def test_a_trainer_that_is_rolled_leaves_its_job_and_the_next_one_finds_it(
    admin: Admin, production: Applied, kubelet: Kubelet
) -> None:
    job = training("rolled")
    with launcher_of(admin, production) as first, launcher_of(admin, production) as second:
        name = first.begin(job)
        pod = first.pod_of(name)
        kubelet.run(pod)
        uid = admin.get("job", name, "-n", production.namespace)[0]["metadata"]["uid"]
        first.leave()
        assert isinstance(first.result(name), JobLeft)
        second.begin(job)
        kubelet.end(second.pod_of(name), code=0)
        assert second.result(name) is None
        (found,) = admin.get("job", name, "-n", production.namespace)
        assert found["metadata"]["uid"] == uid


@pytest.mark.parametrize("how", ["evicted", "ended by SIGTERM"])
def test_a_disruption_is_no_failure_another_pod_goes_on(
    admin: Admin, production: Applied, kubelet: Kubelet, how: str
) -> None:
    with launcher_of(admin, production) as launched:
        name = launched.begin(training(f"disrupted-{len(how)}"))
        first = launched.pod_of(name)
        kubelet.run(first)
        kubelet.end(first, code=137 if how == "evicted" else SIGTERM_CODE, disrupted=how == "evicted")
        second = launched.pod_of(name, other_than=first["metadata"]["name"])
        kubelet.run(second)
        kubelet.end(second, code=0)
        assert launched.result(name) is None


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (65, {"how": "verdict", "error": "NoTrainingRows", "reason": "nothing to train on"}, VerdictOnData),
        (70, {"how": "permanent", "error": "ArtifactMissing", "reason": "it is gone"}, JobGaveUp),
        (75, {"how": "retryable", "error": "OSError", "reason": "it may pass"}, JobFailing),
        (69, {"how": "unavailable", "dependency": "store", "reason": "it is away"}, DependencyUnavailable),
        (137, None, JobPodFailed),
    ],
)
def test_what_a_failed_pod_said_last_is_what_the_job_came_to(
    admin: Admin,
    production: Applied,
    kubelet: Kubelet,
    code: int,
    message: dict[str, str] | None,
    error: type[Exception],
) -> None:
    with launcher_of(admin, production) as launched:
        job = training(f"failed-{code}")
        name = launched.begin(job)
        kubelet.end(launched.pod_of(name), code=code, message="" if message is None else json.dumps(message))
        assert type(launched.result(name)) is error
        # The registry has it tried again: the failed Job makes room for another.
        failed = launched.api.find(name)
        assert failed is not None
        launched.begin(job)
        eventually(
            "another job of this name",
            lambda: (now := launched.api.find(name)) and now["metadata"]["uid"] != failed["metadata"]["uid"],
        )
        kubelet.end(launched.pod_of(name), code=0)
        assert launched.result(name) is None


def test_a_stopped_job_is_deleted_with_its_pod_and_its_name_is_free(
    admin: Admin, production: Applied, kubelet: Kubelet
) -> None:
    with launcher_of(admin, production) as launched:
        job = training("stopped")
        name = launched.begin(job)
        kubelet.run(launched.pod_of(name))
        launched.stop(name)
        assert isinstance(launched.result(name), JobStopped)
        assert launched.api.find(name) is None
        assert launched.api.pods_of(name) == []
        launched.begin(job)
        assert launched.api.find(name) is not None


def test_a_job_that_somebody_else_deletes_is_a_disruption(admin: Admin, production: Applied, kubelet: Kubelet) -> None:
    with launcher_of(admin, production) as launched:
        name = launched.begin(training("deleted"))
        launched.pod_of(name)
        assert admin.kubectl("delete", "job", name, "-n", production.namespace, "--wait=false").returncode == 0
        assert isinstance(launched.result(name), JobDisrupted)


def test_a_job_with_a_queue_waits_suspended_for_kueue(admin: Admin, production: Applied, kubelet: Kubelet) -> None:
    with launcher_of(admin, production, queue="baldistill-training") as launched:
        name = launched.begin(training("queued"))
        found = launched.api.find(name)
        assert found is not None
        assert found["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "baldistill-training"
        assert found["spec"]["suspend"] is True
        assert launched.api.pods_of(name) == []
        # What Kueue does when its quota has room.
        started = admin.kubectl(
            "patch", "job", name, "-n", production.namespace, "--type=merge", "-p", '{"spec":{"suspend":false}}'
        )
        assert started.returncode == 0, started.stderr
        kubelet.end(launched.pod_of(name), code=0)
        assert launched.result(name) is None


def test_the_trainers_account_may_do_what_the_launcher_does_and_nothing_else(
    admin: Admin, production: Applied, applied: dict[Path, Applied]
) -> None:
    namespace = production.namespace
    for verb in ("create", "get", "list", "watch", "delete"):
        assert admin.can("trainer", namespace, verb, "jobs"), verb
    assert admin.can("trainer", namespace, "get", "cronjobs/training")
    assert admin.can("trainer", namespace, "list", "pods")
    refused = [
        ("get", "secrets"), ("list", "secrets"), ("create", "pods"), ("create", "pods/exec"), ("get", "pods/log"), ("delete", "pods"),
        ("patch", "jobs"), ("get", "cronjobs/other"), ("patch", "cronjobs/training"), ("get", "deployments"), ("get", "configmaps"),
        ("create", "rolebindings"),
    ]  # fmt: skip
    assert [what for what in refused if admin.can("trainer", namespace, *what)] == []
    other = applied[Path("overlays/dev")].namespace
    assert not admin.can("trainer", namespace, "list", "jobs", elsewhere=other)


@pytest.mark.parametrize("account", ["policy", "teacher-gateway", "selector", "selector-worker", "training", "prepare"])
def test_no_other_account_may_do_anything(admin: Admin, production: Applied, account: str) -> None:
    for what in (("get", "secrets"), ("list", "pods"), ("create", "jobs"), ("get", "cronjobs/training")):
        assert not admin.can(account, production.namespace, *what)
