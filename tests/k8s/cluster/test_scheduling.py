"""The real scheduler puts student compute on its own pools, and nothing else there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.k8s.cluster.admin import Admin, eventually
from tests.k8s.cluster.nodes import GPUS_A_NODE, NODES, set_schedulable
from tests.k8s.cluster.tenancy import Applied
from tests.k8s.cluster.trainings import launcher_of, training

_GENERAL = {name for name, pool in NODES.items() if pool is None}


def _nodes_of(admin: Admin, namespace: str) -> dict[str, set[str]]:
    """Nodes of a namespace's pods by the name of what made them; those that wait are left out."""
    placed: dict[str, set[str]] = {}
    for pod in admin.pods(namespace):
        if node := pod["spec"].get("nodeName"):
            placed.setdefault(pod["metadata"]["labels"].get("app.kubernetes.io/name", ""), set()).add(node)
    return placed


def _unschedulable(pod: dict[str, Any]) -> str:
    for condition in pod["status"].get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition["message"])
    return ""


@contextmanager
def _workers(admin: Admin, namespace: str, count: int) -> Iterator[None]:
    def scale(to: int) -> None:
        done = admin.kubectl("scale", "deployment/selector-worker", f"--replicas={to}", "-n", namespace)
        assert done.returncode == 0, done.stderr

    scale(count)
    yield
    scale(0)
    eventually("its workers to go", lambda: not admin.pods(namespace, "app.kubernetes.io/name=selector-worker"))


def test_workers_take_the_inference_pool_trainings_the_training_pool_and_the_rest_neither(
    admin: Admin, production: Applied, applied: dict[Path, Applied], kubelet: object
) -> None:
    for other in applied.values():
        admin.kubectl("scale", "deployment/selector-worker", "--replicas=0", "-n", other.namespace)
    namespace = production.namespace
    with _workers(admin, namespace, GPUS_A_NODE), launcher_of(admin, production) as launched:
        launched.begin(training("placed"))
        wanted = {"selector-worker": {"inference-0"}, "training": {"training-0"}}
        eventually(
            "workers and the training to be placed",
            lambda: (
                (found := _nodes_of(admin, namespace)) and all(found.get(name) == on for name, on in wanted.items())
            ),
        )
        others = {"policy", "teacher-gateway", "selector", "trainer", "prepare"}
        placed = eventually("the services to be placed", lambda: _placed_all(admin, namespace, others))
        assert set().union(*(placed[name] for name in others)) <= _GENERAL


def _placed_all(admin: Admin, namespace: str, names: set[str]) -> dict[str, set[str]] | None:
    placed = _nodes_of(admin, namespace)
    return placed if names <= set(placed) else None


def test_a_pool_without_a_free_gpu_has_the_next_worker_wait(admin: Admin, production: Applied, kubelet: object) -> None:
    with _workers(admin, production.namespace, GPUS_A_NODE + 1):

        def waits() -> str:
            pods = admin.pods(production.namespace, "app.kubernetes.io/name=selector-worker")
            placed = [pod for pod in pods if pod["spec"].get("nodeName")]
            reasons = [_unschedulable(pod) for pod in pods if not pod["spec"].get("nodeName")]
            return reasons[0] if len(placed) == GPUS_A_NODE and len(reasons) == 1 else ""

        assert "Insufficient nvidia.com/gpu" in eventually("one worker too many to wait", waits)


def test_replicas_of_a_service_stand_on_different_machines(admin: Admin, production: Applied) -> None:
    placed = eventually(
        "the services to be placed", lambda: _placed_all(admin, production.namespace, {"policy", "selector", "trainer"})
    )
    assert {name: placed[name] for name in ("policy", "selector", "trainer")} == dict.fromkeys(
        ("policy", "selector", "trainer"), _GENERAL
    )


def test_where_no_general_machine_has_room_a_service_waits_and_takes_no_gpu_machine(
    admin: Admin, production: Applied, kubelet: object
) -> None:
    for name in _GENERAL:
        set_schedulable(admin, name, schedulable=False)
    try:
        done = admin.kubectl("scale", "deployment/selector", "--replicas=3", "-n", production.namespace)
        assert done.returncode == 0, done.stderr

        def reason() -> str:
            pods = admin.pods(production.namespace, "app.kubernetes.io/name=selector")
            waiting = [pod for pod in pods if not pod["spec"].get("nodeName")]
            return _unschedulable(waiting[0]) if waiting else ""

        said = eventually("the third replica to wait", reason)
        assert "untolerated taint" in said
        assert "unschedulable" in said
    finally:
        for name in _GENERAL:
            set_schedulable(admin, name, schedulable=True)
        admin.kubectl("scale", "deployment/selector", "--replicas=2", "-n", production.namespace)
