"""Custom resources that the manifests use: their schemas, and the definitions made of them for a real API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_SCHEMAS = Path(__file__).parent / "offline" / "schemas"


def schema_of(api_version: str, kind: str) -> dict[str, Any] | None:
    """Return the schema that we wrote of a custom resource; None where it is none of ours."""
    path = _SCHEMAS / f"{api_version.replace('/', '_')}_{kind}.json"
    return json.loads(path.read_text()) if path.exists() else None


def definitions() -> list[dict[str, Any]]:
    """Return CustomResourceDefinitions as an API server takes them. Fields beyond the schemas are kept: status, defaults."""
    return [_definition(path) for path in sorted(_SCHEMAS.glob("*.json"))]


def _definition(path: Path) -> dict[str, Any]:
    group, version, kind = path.stem.split("_")
    plural = f"{kind.lower()}s"
    # An API server allows `oneOf` only beside a full schema, so what is below `spec` is checked by k8s-check alone.
    loose = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": loose}}},
                }
            ],
        },
    }
