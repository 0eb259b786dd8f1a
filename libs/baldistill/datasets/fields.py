"""From a row as a file has it to an Example: which field is which, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from baldistill.datasets.examples import Example
from baldistill.datasets.sources.rows import RowSource, SourceRow
from baldistill.errors import InvalidInput

FIELDS = ("id", "domain", "input", "answer")

_TYPE_NAMES = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


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

    def check_columns(self, source: RowSource) -> None:
        """Raise InvalidInput where a source that knows its fields lacks one."""
        found = source.columns()
        # An empty file has no fields and is refused as an empty pool.
        if not found:
            return
        for name in FIELDS:
            theirs = self.source_name(name)
            if theirs not in found and not (name == "id" and self.make_ids):
                raise InvalidInput(_missing(name, found), path=source.path, field=theirs)

    def example(self, row: SourceRow, *, number: int) -> Example:
        """Return a row, the file's `number`th, as an Example. Raises InvalidInput naming file, line and field."""
        return Example(
            example_id=self._id(row, number=number),
            domain=self._text(row, "domain"),
            input=self._text(row, "input"),
            answer=self._text(row, "answer"),
        )

    def _id(self, row: SourceRow, *, number: int) -> str:
        value = row.values.get(self.source_name("id"))
        if value is None and self.make_ids:
            return f"row-{number}"
        # Integer ids are common and have one spelling; True is an int in Python only.
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return self._text(row, "id")

    def _text(self, row: SourceRow, name: str) -> str:
        theirs = self.source_name(name)
        value = row.values.get(theirs)
        if isinstance(value, str):
            reason = _refusal(value)
        elif theirs not in row.values:
            reason = _missing(name, row.values)
        else:
            reason = f"is {_TYPE_NAMES.get(type(value), type(value).__name__)}, expected text"
        if reason is None:
            return cast("str", value)
        raise InvalidInput(reason, path=row.path, line=row.line, field=theirs)


def parse_field_map(text: str) -> dict[str, str]:
    """Read `input=question,answer=label`. Raises InvalidInput."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    for ours, separator, theirs in pairs:
        if not (separator and ours.strip() and theirs.strip()):
            raise InvalidInput(f"'{text}' is not of the form input=question,answer=label", field="map")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _refusal(text: str) -> str | None:
    """Return why a text cannot be stored, or None. NUL: PostgreSQL refuses it.

    JSON can spell half of a surrogate pair, which no UTF-8 file, database or tokenizer can hold.
    """
    if not text.strip():
        return "is empty"
    if "\0" in text:
        return "has a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return f"is not valid Unicode: lone surrogate at character {error.start + 1}"
    return None


def _missing(name: str, found: Iterable[str]) -> str:
    advice = f"map another one (--map {name}=NAME)" + (" or number the rows (--make-ids)" if name == "id" else "")
    return f"missing, found {', '.join(found) or 'none'}; {advice}"
