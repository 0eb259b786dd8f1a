"""A cluster for the session: KUBECONFIG's, which has to be an empty one, or a control plane that is built here (ADR 48)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from baldistill.local_stack.kubernetes.control_plane import control_plane
from tests.k8s.cluster.admin import Admin
from tests.k8s.cluster.kubelet import Kubelet
from tests.k8s.cluster.nodes import make_nodes
from tests.k8s.cluster.tenancy import Applied, apply
from tests.k8s.custom_resources import definitions
from tests.k8s.rendering import KUSTOMIZATIONS


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    given = os.environ.get("KUBECONFIG")
    if given:
        yield Path(given)
        return
    with control_plane(tmp_path_factory.mktemp("control-plane")) as running:
        yield running.kubeconfig


@pytest.fixture(scope="session")
def admin(kubeconfig: Path) -> Iterator[Admin]:
    admin = Admin(kubeconfig)
    admin.wait_for_system()
    for definition in definitions():
        admin.make_definition(definition)
    make_nodes(admin)
    yield admin
    admin.close()


@pytest.fixture(scope="session")
def applied(admin: Admin) -> dict[Path, Applied]:
    """Every overlay and combination, each in a namespace of its own."""
    return {path: apply(admin, path) for path in KUSTOMIZATIONS}


@pytest.fixture(scope="session")
def production(applied: dict[Path, Applied]) -> Applied:
    return applied[Path("overlays/production")]


@pytest.fixture(scope="session")
def kubelet(admin: Admin) -> Iterator[Kubelet]:
    """Says about pods what the nodes' kubelets would say."""
    kubelet = Kubelet(admin)
    kubelet.start()
    yield kubelet
    kubelet.close()
