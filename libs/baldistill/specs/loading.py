"""Reads a RunSpec from YAML and tells mistakes by file, line and field."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from baldistill.errors import InvalidInput
from baldistill.specs.runspec import RunSpec


def load_runspec(path: Path) -> RunSpec:
    """Read and validate a spec file. Raises InvalidInput that names file, line and field of the first mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInput("there is no such spec file", path=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot be read: {error}", path=path) from error
    return parse_runspec(text, path=path)


def parse_runspec(text: str, *, path: Path | str, tenant: str | None = None) -> RunSpec:
    """Validate a spec in YAML, or JSON, which is YAML too. Raises InvalidInput as `load_runspec` does.

    path: what to call it in messages.   tenant: whose it is where it does not say.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise InvalidInput(f"is not valid YAML: {error.problem}", path=path, line=line) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(f"is not valid YAML: {str(error).splitlines()[0]}", path=path) from error
    if not isinstance(values, dict):
        raise InvalidInput("is not a mapping of keys to values; see examples/*.yaml", path=path)
    if tenant is not None:
        values.setdefault("tenant", tenant)
    try:
        return RunSpec.model_validate(values)
    except ValidationError as error:
        raise _as_invalid_input(error.errors(include_url=False)[0], path=path, root=root) from error


@contextmanager
def blaming_spec(path: Path) -> Iterator[None]:
    """Give file and line to errors that name a field of the spec, raised by those who know only the spec's values."""
    try:
        yield
    except InvalidInput as error:
        if error.path is not None or error.field is None:
            raise
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        line = line_of(root, tuple(error.field.split(".")))
        raise InvalidInput(error.reason, path=path, line=line, field=error.field) from error


def line_of(root: yaml.Node | None, location: tuple[int | str, ...]) -> int | None:
    """Return the 1-based line of the key at `location`, or of its nearest parent that is written down."""
    node, line = root, root.start_mark.line + 1 if root else None
    for step in location:
        child, child_line = _child(node, step)
        if child is None:
            break
        node, line = child, child_line
    return line


def _child(node: yaml.Node | None, step: int | str) -> tuple[yaml.Node | None, int | None]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step].start_mark.line + 1
    return None, None


def _as_invalid_input(error: ErrorDetails, *, path: Path | str, root: yaml.Node | None) -> InvalidInput:
    location = tuple(step for step in error["loc"] if not _is_union_branch(step))
    reason = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        reason = "unknown key; see `baldistill schema` for the known ones"
    if error["type"] == "value_error":
        location, reason = _named_in_reason(location, reason)
    elif error["type"] not in {"missing", "extra_forbidden"}:
        reason = f"{reason} (got {_shown(error['input'])})"
    return InvalidInput(
        reason, path=path, line=line_of(root, location), field=".".join(str(step) for step in location) or None
    )


def _named_in_reason(location: tuple[int | str, ...], reason: str) -> tuple[tuple[int | str, ...], str]:
    """A rule over several fields names the one to change first: `stages: ...`."""
    name, colon, rest = reason.partition(": ")
    return (
        ((*location, *name.split(".")), rest) if colon and name.replace(".", "").isidentifier() else (location, reason)
    )


def _is_union_branch(step: int | str) -> bool:
    """Pydantic names the branch of a union it tried: `str`, `int`, a model's name, `literal[...]`."""
    return isinstance(step, str) and (step in {"str", "int"} or step[0].isupper() or step.startswith("literal["))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
