"""A real API server takes every overlay, and Pod Security's strictest level lets every pod be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.k8s.cluster.admin import Admin, eventually
from tests.k8s.cluster.tenancy import Applied
from tests.k8s.rendering import KUSTOMIZATIONS, workloads

every = pytest.mark.parametrize("kustomization", KUSTOMIZATIONS, ids=str)


@every
def test_server_side_apply_is_accepted_without_a_warning(applied: dict[Path, Applied], kustomization: Path) -> None:
    done = applied[kustomization]
    assert done.returncode == 0, done.said
    assert "warning" not in done.said.lower(), done.said
    assert done.said.count("serverside-applied") == len(done.documents)


@every
def test_pod_security_restricted_lets_every_pod_be_made(
    admin: Admin, applied: dict[Path, Applied], kustomization: Path
) -> None:
    done = applied[kustomization]
    (namespace,) = admin.get("namespace", done.namespace)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    wanted = {one.name for one in workloads(done.documents) if one.kind in {"Deployment", "StatefulSet", "Job"}}

    def all_made() -> bool:
        made = {pod["metadata"]["labels"].get("app.kubernetes.io/name") for pod in admin.pods(done.namespace)}
        return wanted <= made

    assert len(wanted) >= 6
    eventually(f"pods of {wanted} in {done.namespace}", all_made)


def test_what_is_less_than_restricted_is_refused(admin: Admin, production: Applied) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root", "namespace": production.namespace},
        "spec": {"containers": [{"name": "main", "image": "example.com/any:1"}]},
    }
    refused = admin.apply([pod])
    assert refused.returncode != 0
    assert 'violates PodSecurity "restricted:' in refused.stderr


@every
def test_applying_again_changes_nothing(admin: Admin, applied: dict[Path, Applied], kustomization: Path) -> None:
    done = applied[kustomization]
    before = {
        one["metadata"]["uid"]: one["metadata"]["generation"] for one in admin.get("deployments", "-n", done.namespace)
    }
    again = admin.apply(list(done.documents))
    assert again.returncode == 0, again.stderr
    after = {
        one["metadata"]["uid"]: one["metadata"]["generation"] for one in admin.get("deployments", "-n", done.namespace)
    }
    assert before == after
