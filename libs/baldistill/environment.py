"""Settings from the environment, with errors that name the variable which is wrong. Only a process's `__main__` reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsError

from baldistill.errors import BalDistillError

_S = TypeVar("_S", bound=BaseSettings)


class SettingsWrong(BalDistillError):
    """A process was told something that it cannot use. One line per variable."""

    exit_code = 78  # EX_CONFIG

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))


def load_settings(kind: type[_S]) -> _S:
    """Read settings. Raises SettingsWrong. Values are never in the message: they may be secrets."""
    try:
        return kind()
    except ValidationError as error:
        raise SettingsWrong([_line(kind, wrong) for wrong in error.errors(include_input=False)]) from None
    except SettingsError as error:
        raise SettingsWrong([f"{error}; write one variable per field instead"]) from None


def _line(kind: type[BaseSettings], wrong: ErrorDetails) -> str:
    prefix = kind.model_config.get("env_prefix", "")
    delimiter = kind.model_config.get("env_nested_delimiter") or "__"
    names = [str(part) for part in wrong["loc"]]
    variable = prefix + delimiter.join(names).upper()
    if wrong["type"] != "missing":
        return f"{variable}: {wrong['msg']}"
    missing = [variable + (delimiter + name).upper() for name in _required_below(kind, names)] or [variable]
    return f"{' and '.join(missing)} must be set"


def _required_below(kind: type[BaseModel], names: Sequence[str]) -> Iterator[str]:
    """Yield what a section that is missing as a whole needs: a section is set by its fields."""
    annotation: Any = kind
    for name in names:
        field = annotation.model_fields.get(name) if _is_section(annotation) else None
        annotation = field.annotation if field is not None else None
    if _is_section(annotation):
        for name, field in annotation.model_fields.items():
            if field.is_required():
                yield name


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
