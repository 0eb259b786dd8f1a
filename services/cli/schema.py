"""`baldistill schema`: the spec's JSON Schema, for editors and for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from baldistill.specs.runspec import RunSpec
from services.cli.output import print_json


def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to a file instead.")] = None,
) -> None:
    """Print the JSON Schema of a run spec, with every key's meaning and default.

    Editors complete and check specs with it: docs/reference/runspec.schema.json.
    """
    if output is None:
        print_json(runspec_schema())
    else:
        import json

        output.write_text(json.dumps(runspec_schema(), indent=2) + "\n", encoding="utf-8")


def runspec_schema() -> dict[str, Any]:
    """Return the schema that `docs/reference/runspec.schema.json` holds."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **RunSpec.model_json_schema()}
