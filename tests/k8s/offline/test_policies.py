"""What no manifest may lack: bounds, probes, the strictest security, budgets and policies that select what they should."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.k8s.rendering import KUSTOMIZATIONS, Document, Workload, of_kind, rendered, selects, workloads

every = pytest.mark.parametrize("kustomization", KUSTOMIZATIONS, ids=str)

# The image writes its configuration below /opt/kafka at start.
_WRITE_THEIR_ROOT = {"kafka"}
_SERVED = {"policy", "teacher-gateway", "selector", "selector-worker", "trainer"}
_SERVERS = {"kafka", "minio", "postgres"}

# Who may read which secret. A training knows no database, and only the gateway knows the teachers' keys.
_READERS = {
    "database": {"policy", "teacher-gateway", "selector", "selector-worker", "trainer", "prepare"},
    "store": {"policy", "teacher-gateway", "selector", "selector-worker", "trainer", "training", "prepare", "minio"},
    "kafka": {"policy", "teacher-gateway", "selector", "selector-worker", "trainer", "training", "prepare"},
    "gateway-token": {"policy", "prepare"},
    "teacher-keys": {"teacher-gateway"},
    "postgres": {"postgres"},
    **{f"{name}-tls": {name} for name in ("policy", "teacher-gateway", "selector", "trainer")},
}


def pods(kustomization: Path) -> list[Workload]:
    return list(workloads(rendered(kustomization)))


def secrets_of(workload: Workload) -> set[str]:
    found = set()
    for volume in workload.pod["spec"].get("volumes", []):
        if "secret" in volume:
            found.add(volume["secret"]["secretName"])
        for source in volume.get("projected", {}).get("sources", []):
            found.add(source["secret"]["name"])
    return {_without_digest(name) for name in found}


def _without_digest(name: str) -> str:
    stem, _, digest = name.rpartition("-")
    return stem if len(digest) == 10 and stem in _READERS else name


@every
def test_every_container_is_bounded_and_pinned(kustomization: Path) -> None:
    for workload in pods(kustomization):
        for container in workload.containers:
            limits, requests = container["resources"]["limits"], container["resources"]["requests"]
            assert {"cpu", "memory"} <= set(limits) & set(requests), container["name"]
            assert ":" in container["image"].rpartition("/")[2], container["image"]
            assert not container["image"].endswith(":latest")
        for volume in workload.pod["spec"].get("volumes", []):
            assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"], (workload.name, volume)
            assert "hostPath" not in volume


@every
def test_whatever_runs_on_is_probed(kustomization: Path) -> None:
    for workload in pods(kustomization):
        if workload.kind in {"Deployment", "StatefulSet"}:
            for container in workload.containers:
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    assert len(set(container[probe]) & {"grpc", "httpGet", "tcpSocket", "exec"}) == 1, probe
                # A probe that never gives up would hide a process that never starts.
                assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] <= 600


@every
def test_every_pod_is_locked_down(kustomization: Path) -> None:
    for workload in pods(kustomization):
        spec = workload.pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not set(spec) & {"hostNetwork", "hostPID", "hostIPC"}
        assert spec["automountServiceAccountToken"] is (workload.name == "trainer")
        for container in workload.containers:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is (workload.name not in _WRITE_THEIR_ROOT), workload.name


@every
def test_processes_drain_before_they_are_killed(kustomization: Path) -> None:
    documents = rendered(kustomization)
    (settings,) = (one for one in of_kind(documents, "ConfigMap") if one["metadata"]["name"].startswith("settings"))
    drain_s = float(settings["data"]["BALDISTILL_SERVER__DRAIN_GRACE_S"])
    for workload in pods(kustomization):
        if workload.kind == "Deployment":
            (container,) = workload.containers
            pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert pause_s >= 5
            assert workload.pod["spec"]["terminationGracePeriodSeconds"] >= pause_s + drain_s + 10


@every
def test_secrets_are_files_and_each_is_read_by_those_who_need_it_alone(kustomization: Path) -> None:
    for workload in pods(kustomization):
        for secret in secrets_of(workload):
            assert workload.name in _READERS[secret], (workload.name, secret)
        for container in workload.containers:
            assert all("valueFrom" not in variable for variable in container.get("env", []))
            assert all("secretRef" not in source for source in container.get("envFrom", []))


@every
def test_a_disruption_budget_guards_each_service_and_nothing_else(kustomization: Path) -> None:
    budgets = of_kind(rendered(kustomization), "PodDisruptionBudget")
    for workload in pods(kustomization):
        guards = [one for one in budgets if selects(one["spec"]["selector"], workload.labels)]
        assert [one["metadata"]["name"] for one in guards] == ([workload.name] if workload.name in _SERVED else [])
        assert all(one["spec"]["maxUnavailable"] == 1 for one in guards)


@every
def test_replicas_spread_over_machines_and_zones(kustomization: Path) -> None:
    for workload in pods(kustomization):
        if workload.kind == "Deployment":
            spreads = workload.pod["spec"]["topologySpreadConstraints"]
            assert {one["topologyKey"] for one in spreads} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
            assert all(selects(one["labelSelector"], workload.labels) for one in spreads)
            others = [one.labels for one in pods(kustomization) if one.name != workload.name]
            assert not any(selects(spreads[0]["labelSelector"], labels) for labels in others)


@every
def test_services_find_exactly_their_pods_by_ports_that_are_there(kustomization: Path) -> None:
    documents = rendered(kustomization)
    for service in of_kind(documents, "Service"):
        chosen = [
            one for one in pods(kustomization) if selects({"matchLabels": service["spec"]["selector"]}, one.labels)
        ]
        assert [one.name for one in chosen] == [service["metadata"]["name"]]
        there = {port["name"]: port["containerPort"] for one in chosen[0].containers for port in one["ports"]}
        for port in service["spec"]["ports"]:
            assert there[port["targetPort"]] == port["port"]


WITH_POLICIES = [path for path in KUSTOMIZATIONS if any(one["kind"] == "NetworkPolicy" for one in rendered(path))]


def allowed(documents: tuple[Document, ...], *, source: Workload, target: Workload, port: int) -> bool:
    """Tell whether policies let a pod reach another's port, as the API's documentation has it."""
    policies = of_kind(documents, "NetworkPolicy")

    def lets(direction: str, near: Workload, far: Workload) -> bool:
        key = "from" if direction == "Ingress" else "to"
        acting = [
            one["spec"]
            for one in policies
            if direction in one["spec"]["policyTypes"] and selects(one["spec"]["podSelector"], near.labels)
        ]
        return not acting or any(
            any(_is_peer(peer, far) for peer in rule[key]) and any(_is_port(one, target, port) for one in rule["ports"])
            for spec in acting
            for rule in spec.get(direction.lower(), [])
        )

    return lets("Egress", source, target) and lets("Ingress", target, source)


def _is_peer(peer: Document, far: Workload) -> bool:
    return set(peer) == {"podSelector"} and selects(peer["podSelector"], far.labels)


def _is_port(one: Document, target: Workload, port: int) -> bool:
    names = {port["name"]: port["containerPort"] for container in target.containers for port in container["ports"]}
    return names.get(one["port"], one["port"]) == port


@pytest.mark.parametrize("kustomization", WITH_POLICIES, ids=str)
def test_pods_reach_what_they_need_and_nothing_else(kustomization: Path) -> None:
    documents = rendered(kustomization)
    by_name = {one.name: one for one in pods(kustomization)}
    reached = {
        (source.name, target.name, port["containerPort"])
        for source in by_name.values()
        for target in by_name.values()
        for container in target.containers
        for port in container.get("ports", [])
        if source is not target and allowed(documents, source=source, target=target, port=port["containerPort"])
    }
    wanted = {(name, "policy", 50051) for name in ("teacher-gateway", "selector", "trainer")}
    wanted |= {("policy", "teacher-gateway", 50053)}
    if set(by_name) >= _SERVERS:
        wanted |= {(name, "postgres", 5432) for name in _READERS["database"]}
        wanted |= {(name, "minio", 9000) for name in _READERS["store"] - {"minio"}}
        wanted |= {(name, "kafka", 9092) for name in _READERS["kafka"]}
    assert reached == wanted


@pytest.mark.parametrize("kustomization", WITH_POLICIES, ids=str)
def test_only_the_gateway_and_the_trainer_leave_the_namespace_and_nobody_reaches_the_clouds_metadata(
    kustomization: Path,
) -> None:
    outside: dict[str, set[str]] = {}
    for policy in of_kind(rendered(kustomization), "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            for peer in rule["to"]:
                if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    assert peer["ipBlock"]["except"] == ["169.254.0.0/16"]
                    chosen = {
                        one.name for one in pods(kustomization) if selects(policy["spec"]["podSelector"], one.labels)
                    }
                    outside[policy["metadata"]["name"]] = chosen
    assert outside == {"to-teachers": {"teacher-gateway"}, "to-cluster-api": {"trainer"}}


@every
def test_gpus_are_asked_for_on_their_own_pool_alone(kustomization: Path) -> None:
    for workload in pods(kustomization):
        spec = workload.pod["spec"]
        gpus = [one for one in workload.containers if "nvidia.com/gpu" in one["resources"]["limits"]]
        if not gpus:
            assert "nodeSelector" not in spec
            assert "tolerations" not in spec
            continue
        pool = {"selector-worker": "inference", "training": "training"}[workload.name]
        assert spec["nodeSelector"] == {"baldistill.io/pool": pool}
        tolerated = {(one["key"], one.get("value")) for one in spec["tolerations"]}
        assert tolerated == {("baldistill.io/pool", pool), ("nvidia.com/gpu", None)}
        classes = {one["metadata"]["name"] for one in of_kind(rendered(kustomization), "PriorityClass")}
        assert spec["priorityClassName"] in classes
