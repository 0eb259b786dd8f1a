"""What `kubectl apply -k` would send, as plain documents."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from baldistill.local_stack.kubernetes.programs import any_kubectl

ROOT = Path(__file__).parents[2]
KUSTOMIZATIONS = tuple(
    sorted(
        path.parent.relative_to(ROOT / "k8s")
        for folder in ("overlays", "tests")
        for path in (ROOT / "k8s" / folder).glob("*/kustomization.yaml")
    )
)

Document: TypeAlias = Mapping[str, Any]

# Where a kind keeps its pods' template.
_TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


@functools.cache
def rendered(kustomization: Path) -> tuple[Document, ...]:
    """Return the documents of a folder below k8s/."""
    command = [str(any_kubectl()), "kustomize", str(ROOT / "k8s" / kustomization)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Something that makes pods. pod: the pods' metadata and spec."""

    kind: str
    name: str
    document: Document
    pod: Document

    @property
    def labels(self) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.pod["metadata"]["labels"]
        return labels

    @property
    def containers(self) -> list[Document]:
        return [*self.pod["spec"]["containers"], *self.pod["spec"].get("initContainers", [])]


def workloads(documents: tuple[Document, ...]) -> Iterator[Workload]:
    """Yield everything that makes pods."""
    for document in documents:
        if document["kind"] in _TEMPLATES:
            pod: Any = document
            for key in _TEMPLATES[document["kind"]]:
                pod = pod[key]
            yield Workload(kind=document["kind"], name=document["metadata"]["name"], document=document, pod=pod)


def of_kind(documents: tuple[Document, ...], kind: str) -> list[Document]:
    """Return the documents of one kind."""
    return [document for document in documents if document["kind"] == kind]


def selects(selector: Document, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector matches. An empty one matches everything."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True
