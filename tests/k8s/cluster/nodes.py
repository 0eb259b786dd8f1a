"""Nodes as objects: what a cloud's node pools would register (docs/kubernetes.md)."""

from __future__ import annotations

import json
from typing import Any

from tests.k8s.cluster.admin import Admin

POOL_LABEL = "baldistill.io/pool"
GPUS_A_NODE = 2
NODES = {"general-0": None, "general-1": None, "inference-0": "inference", "training-0": "training"}


def make_nodes(admin: Admin) -> None:
    for name, pool in NODES.items():
        taints = [{"key": POOL_LABEL, "value": pool, "effect": "NoSchedule"}] if pool else []
        labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{name[-1]}"}
        labels |= {POOL_LABEL: pool} if pool else {}
        done = admin.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}])
        assert done.returncode == 0, done.stderr
        capacity = {"cpu": "64", "memory": "256Gi", "pods": "200", "ephemeral-storage": "500Gi"}
        capacity |= {"nvidia.com/gpu": str(GPUS_A_NODE)} if pool else {}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "said by the test"}
        _patch(
            admin, name, {"status": {"capacity": capacity, "allocatable": capacity, "conditions": [ready]}}, "status"
        )
        # The API server marks a node that is new as not ready; who sees it ready takes that away.
        _patch(admin, name, {"spec": {"taints": taints}})


def set_schedulable(admin: Admin, name: str, *, schedulable: bool) -> None:
    _patch(admin, name, {"spec": {"unschedulable": not schedulable}})


def _patch(admin: Admin, name: str, change: dict[str, Any], subresource: str = "") -> None:
    where = [f"--subresource={subresource}"] if subresource else []
    done = admin.kubectl("patch", "node", name, "--type=merge", *where, "--patch", json.dumps(change))
    assert done.returncode == 0, done.stderr
