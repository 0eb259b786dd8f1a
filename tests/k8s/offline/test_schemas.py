"""Every overlay and combination renders, and every document is what the API of the pinned version takes."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest

from baldistill.local_stack.kubernetes.programs import kubernetes_version
from tests.k8s.custom_resources import schema_of
from tests.k8s.rendering import KUSTOMIZATIONS, rendered


def test_the_overlays_and_combinations_are_found() -> None:
    assert {Path("overlays/dev"), Path("overlays/production")} < set(KUSTOMIZATIONS)
    assert len(KUSTOMIZATIONS) >= 6


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS, ids=str)
def test_every_document_is_valid(kustomization: Path) -> None:
    validated = set()
    for document in rendered(kustomization):
        schema = schema_of(document["apiVersion"], document["kind"])
        if schema is not None:
            jsonschema.Draft202012Validator(schema).validate(document)
        else:
            kubernetes_validate.validate(dict(document), kubernetes_version(), strict=True)
        validated.add(document["kind"])
    assert {"Namespace", "Deployment", "Service", "ConfigMap", "Job", "CronJob", "Role"} <= validated


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS, ids=str)
def test_every_document_has_one_place_and_names_are_unique(kustomization: Path) -> None:
    names = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in rendered(kustomization)]
    assert len(names) == len(set(names))
    of_the_cluster = {"Namespace", "PriorityClass"}
    assert {
        one["metadata"].get("namespace") for one in rendered(kustomization) if one["kind"] not in of_the_cluster
    } == {"baldistill"}


def test_a_misspelled_field_of_a_custom_resource_is_refused() -> None:
    schema = schema_of("keda.sh/v1alpha1", "ScaledObject")
    assert schema is not None
    (scaled,) = (one for one in rendered(Path("overlays/production")) if one["kind"] == "ScaledObject")
    wrong = dict(scaled) | {"spec": {**scaled["spec"], "minReplicas": 0}}
    with pytest.raises(jsonschema.ValidationError, match="minReplicas"):
        jsonschema.Draft202012Validator(schema).validate(wrong)
