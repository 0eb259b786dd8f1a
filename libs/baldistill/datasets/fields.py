"""From a row as a file has it to an Example: which field is which, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from baldistill.datasets.examples import Example
from baldistill.datasets.sources.rows import SourceRow
from baldistill.errors import InvalidInput

FIELDS = ("id", "domain", "input", "answer")

_TYPE_NAMES = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldMap:
    """Names of our fields in a file. make_ids: rows without an id are numbered, `row-1` being the file's first."""

    names: Mapping[str, str] = field(default_factory=dict)
    make_ids: bool = False

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in FIELDS:
                raise InvalidInput(f"there is no field '{name}' to map; fields: {', '.join(FIELDS)}", field="map")

    def source_name(self, name: str) -> str:
        """Return what the file calls one of our fields."""
        return self.names.get(name, name)

    def columns(self) -> list[str]:
        """Return the names that a file is asked for, each once."""
        return list(dict.fromkeys(self.source_name(name) for name in FIELDS))

    def example(self, row: SourceRow, *, number: int) -> Example:
        """Return a row, the file's `number`th, as an Example. Raises InvalidInput naming file, line and field."""
        return Example(
            example_id=self._id(row, number=number),
            domain=_text(row, self.source_name("domain")),
            input=_text(row, self.source_name("input")),
            answer=_text(row, self.source_name("answer")),
        )

    def _id(self, row: SourceRow, *, number: int) -> str:
        name = self.source_name("id")
        value = row.values.get(name)
        if value is None and self.make_ids:
            return f"row-{number}"
        if value is None:
            reason = "missing; map another one (--map id=NAME) or let the rows be numbered (--make-ids)"
            raise InvalidInput(reason, path=row.path, line=row.line, field=name)
        # Integer ids are common and have one spelling; True is an int in Python only.
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return _text(row, name)


def parse_field_map(text: str) -> dict[str, str]:
    """Read `input=question,answer=label`. Raises InvalidInput."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    for ours, separator, theirs in pairs:
        if not (separator and ours.strip() and theirs.strip()):
            raise InvalidInput(f"'{text}' is not of the form input=question,answer=label", field="map")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _text(row: SourceRow, name: str) -> str:
    value = row.values.get(name)
    if isinstance(value, str):
        if not value.strip():
            raise InvalidInput("is empty", path=row.path, line=row.line, field=name)
        if not value.isascii():
            _check_characters(row, name, value)
        if "\0" in value:
            raise InvalidInput("has a NUL character", path=row.path, line=row.line, field=name)
        return value
    if name not in row.values:
        known = ", ".join(str(key) for key in row.values) or "none"
        raise InvalidInput(f"missing; fields here: {known}", path=row.path, line=row.line, field=name)
    reason = "is null" if value is None else f"is {_TYPE_NAMES.get(type(value), type(value).__name__)}, expected text"
    raise InvalidInput(reason, path=row.path, line=row.line, field=name)


def _check_characters(row: SourceRow, name: str, value: str) -> None:
    """JSON can spell half of a surrogate pair, which no UTF-8 file, database or tokenizer can hold."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        reason = f"is not valid Unicode: lone surrogate at character {error.start + 1}"
        raise InvalidInput(reason, path=row.path, line=row.line, field=name) from None
