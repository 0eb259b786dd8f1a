"""Disruption budgets let one replica at a time go; policies choose the pods that they should. As the API server sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from tests.k8s.cluster.admin import Admin, eventually
from tests.k8s.cluster.kubelet import Kubelet
from tests.k8s.cluster.tenancy import Applied
from tests.k8s.cluster.trainings import launcher_of, training

_SERVED = ("policy", "teacher-gateway", "selector", "trainer")


def test_each_budget_counts_the_pods_of_its_service(admin: Admin, production: Applied) -> None:
    def expected() -> dict[str, int]:
        budgets = admin.get("poddisruptionbudgets", "-n", production.namespace)
        return {one["metadata"]["name"]: one.get("status", {}).get("expectedPods", -1) for one in budgets}

    wanted = {"policy": 2, "teacher-gateway": 3, "selector": 2, "trainer": 2, "selector-worker": 0}
    admin.kubectl("scale", "deployment/selector-worker", "--replicas=0", "-n", production.namespace)
    eventually(f"budgets to count {wanted}", lambda: expected() == wanted)


def test_one_replica_may_be_evicted_and_not_the_next_before_another_is_ready(
    admin: Admin, production: Applied, kubelet: Kubelet
) -> None:
    def placed() -> list[dict[str, Any]]:
        pods = admin.pods(production.namespace, "app.kubernetes.io/name=policy")
        there = [one for one in pods if one["spec"].get("nodeName") and not one["metadata"].get("deletionTimestamp")]
        return there if len(there) == 2 else []

    for pod in eventually("both replicas to be placed", placed):
        kubelet.run(pod)

    def allowed() -> bool:
        (budget,) = admin.get("poddisruptionbudget", "policy", "-n", production.namespace)
        return bool(budget["status"]["disruptionsAllowed"] == 1)

    eventually("one disruption to be allowed", allowed)
    first, second = placed()
    _evict(admin, first)
    with pytest.raises(client.ApiException) as refused:
        _evict(admin, second)
    assert refused.value.status == 429
    assert "disruption budget" in str(refused.value.body)


def _evict(admin: Admin, pod: dict[str, Any]) -> None:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    admin.core.create_namespaced_pod_eviction(name, namespace, eviction)


def test_a_training_is_evicted_whenever_somebody_wants_its_node(
    admin: Admin, production: Applied, kubelet: Kubelet
) -> None:
    with launcher_of(admin, production) as launched:
        name = launched.begin(training("evicted"))
        first = launched.pod_of(name)
        kubelet.run(first)
        _evict(admin, first)
        second = launched.pod_of(name, other_than=first["metadata"]["name"])
        kubelet.run(second)
        kubelet.end(second, code=0)
        assert launched.result(name) is None


_CHOSEN: list[tuple[str, set[str]]] = [
    ("default-deny", {"policy", "teacher-gateway", "selector", "trainer", "prepare", "training"}),
    ("scraping", {"policy", "teacher-gateway", "selector", "trainer"}),
    ("clients", {"policy", "teacher-gateway", "selector", "trainer"}),
    ("policy-by-services", {"policy"}),
    ("to-policy", {"teacher-gateway", "selector", "trainer"}),
    ("gateway-by-policy", {"teacher-gateway"}),
    ("to-gateway", {"policy"}),
    ("to-teachers", {"teacher-gateway"}),
    ("to-cluster-api", {"trainer"}),
    ("servers", set()),
    ("to-servers", {"policy", "teacher-gateway", "selector", "trainer", "prepare", "training"}),
    ("to-own-servers", {"policy", "teacher-gateway", "selector", "trainer", "prepare", "training"}),
]


@pytest.mark.parametrize(("policy", "chosen"), _CHOSEN)
def test_each_policy_chooses_the_pods_that_it_should(
    admin: Admin, production: Applied, kubelet: Kubelet, policy: str, chosen: set[str]
) -> None:
    (found,) = admin.get("networkpolicy", policy, "-n", production.namespace)
    with launcher_of(admin, production) as launched:
        launched.begin(training("chosen"))
        selector = _as_text(found["spec"]["podSelector"])

        def names() -> set[str]:
            pods = admin.pods(production.namespace, selector)
            return {pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in pods} - {"selector-worker"}

        assert eventually(f"{policy} to choose", lambda: names() == chosen)


def _as_text(selector: dict[str, Any]) -> str:
    equal = [f"{key}={value}" for key, value in selector.get("matchLabels", {}).items()]
    among = [f"{one['key']} in ({','.join(one['values'])})" for one in selector.get("matchExpressions", [])]
    return ",".join(equal + among)


def test_every_policy_of_production_is_in_that_list(admin: Admin, production: Applied) -> None:
    listed = {policy for policy, _ in _CHOSEN}
    assert {one["metadata"]["name"] for one in admin.get("networkpolicies", "-n", production.namespace)} == listed


def test_priorities_are_those_of_the_pools(admin: Admin, applied: dict[Path, Applied]) -> None:
    (template,) = admin.get("cronjob", "training", "-n", applied[Path("overlays/production")].namespace)
    pod = template["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    classes = {one["metadata"]["name"]: one["value"] for one in admin.get("priorityclasses")}
    assert classes["baldistill-inference"] > classes[pod["priorityClassName"]]
