"""Each overlay in a namespace of its own, so that all of them stand beside each other in one cluster."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.k8s.cluster.admin import Admin
from tests.k8s.rendering import rendered

_NAMESPACE = "baldistill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was applied where, and what the API server had to say."""

    namespace: str
    documents: tuple[Mapping[str, Any], ...]
    returncode: int
    said: str


def apply(admin: Admin, kustomization: Path) -> Applied:
    """Apply an overlay on the server's side."""
    namespace = f"{_NAMESPACE}-{kustomization.name}"
    documents = [_moved(document, namespace) for document in rendered(kustomization)]
    # The namespace first: kubectl sorts kustomizations so by itself.
    documents.sort(key=lambda one: one["kind"] != "Namespace")
    done = admin.apply(documents)
    return Applied(
        namespace=namespace, documents=tuple(documents), returncode=done.returncode, said=done.stdout + done.stderr
    )


def _moved(document: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    moved = copy.deepcopy(dict(document))
    if moved["kind"] == "Namespace":
        moved["metadata"]["name"] = namespace
    elif "namespace" in moved["metadata"]:
        moved["metadata"]["namespace"] = namespace
    for subject in moved.get("subjects", []):
        subject["namespace"] = namespace
    return moved
