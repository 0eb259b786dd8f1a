"""The published JSON Schema is today's, and the examples fit it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from baldistill.specs.loading import load_runspec
from services.cli.schema import runspec_schema

ROOT = Path(__file__).parents[3]
SPECS = [*sorted((ROOT / "examples").glob("*.yaml")), *sorted((ROOT / "tests/bench/real").glob("*.yaml"))]


def test_the_published_schema_is_fresh() -> None:
    published = json.loads((ROOT / "docs/reference/runspec.schema.json").read_text())
    assert published == runspec_schema(), "run: baldistill schema -o docs/reference/runspec.schema.json"


def test_every_key_of_a_spec_is_explained() -> None:
    schema = runspec_schema()
    models = [schema, *schema["$defs"].values()]
    silent = [
        f"{model['title']}.{name}"
        for model in models
        for name, field in model.get("properties", {}).items()
        if "description" not in field and "$ref" not in field
    ]
    assert silent == []


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_every_example_is_valid(path: Path) -> None:
    load_runspec(path)
    jsonschema.validate(yaml.safe_load(path.read_text()), runspec_schema())
