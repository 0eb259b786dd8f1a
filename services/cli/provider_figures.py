"""A file with a provider's figures: CSV with a header, or a JSON list of objects, told apart by the name's end."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from baldistill.errors import InvalidInput
from services.teacher_gateway.ledger.budgets import BudgetPath
from services.teacher_gateway.ledger.reconciling import ProviderFigure

_COLUMNS = ("tenant", "run", "calls", "tokens", "usd")
# SQL's BIGINT.
_LARGEST = 2**63 - 1
_NANO = 10**9


def read_figures(file: Path) -> list[ProviderFigure]:
    """Return the figures of a file. Raises InvalidInput that names file, line (of JSON: the entry, from 1) and field."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot be read: {error}", path=file) from error
    rows = _json_rows(text, file) if file.suffix.lower() == ".json" else _csv_rows(text, file)
    figures = [_figure(row, file=file, line=line) for line, row in rows]
    if not figures:
        raise InvalidInput("has no figures; say 0 for tenants of whom the provider counted nothing", path=file)
    return figures


def _csv_rows(text: str, file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_names(header, file=file, line=1)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise InvalidInput(f"{len(cells)} cells, the header has {len(header)}", path=file, line=reader.line_num)
            yield reader.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise InvalidInput(f"is no CSV: {error}", path=file, line=reader.line_num) from error


def _json_rows(text: str, file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        # Money as it is written, not as the nearest binary fraction.
        entries = json.loads(text, parse_float=Decimal)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"is no JSON: {error.msg}", path=file, line=error.lineno) from error
    if not isinstance(entries, list):
        raise InvalidInput("is no list of objects", path=file)
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise InvalidInput("is no object", path=file, line=number)
        _check_names(list(entry), file=file, line=number)
        yield number, entry


def _check_names(names: list[str], *, file: Path, line: int) -> None:
    for name in names:
        if name not in _COLUMNS:
            raise InvalidInput(f"is not known; one of {', '.join(_COLUMNS)}", path=file, line=line, field=name)
        if names.count(name) > 1:
            raise InvalidInput("is there twice", path=file, line=line, field=name)
    for name in ("tenant", "calls"):
        if name not in names:
            raise InvalidInput("is missing", path=file, line=line, field=name)


def _figure(row: Mapping[str, Any], *, file: Path, line: int) -> ProviderFigure:
    for field in ("tenant", "run"):
        if not isinstance(row.get(field) or "", str):
            raise InvalidInput("is no text", path=file, line=line, field=field)
    if not row["tenant"]:
        raise InvalidInput("is empty", path=file, line=line, field="tenant")
    calls = _whole(row, "calls", file=file, line=line)
    if calls is None:
        raise InvalidInput("is empty; 0 where the provider counted nothing", path=file, line=line, field="calls")
    usd = _amount(row, "usd", file=file, line=line, most=Decimal(_LARGEST) / _NANO)
    return ProviderFigure(
        path=BudgetPath(tenant=row["tenant"], run_id=row.get("run") or ""),
        calls=calls,
        tokens=_whole(row, "tokens", file=file, line=line),
        nano_usd=None if usd is None else int((usd * _NANO).to_integral_value(rounding=ROUND_CEILING)),
        place=f"{file}:{line}",
    )


def _whole(row: Mapping[str, Any], field: str, *, file: Path, line: int) -> int | None:
    number = _amount(row, field, file=file, line=line, most=Decimal(_LARGEST))
    if number is not None and number != number.to_integral_value():
        raise InvalidInput(f"'{number}' is no whole number", path=file, line=line, field=field)
    return None if number is None else int(number)


def _amount(row: Mapping[str, Any], field: str, *, file: Path, line: int, most: Decimal) -> Decimal | None:
    value = row.get(field)
    if value is None or value == "":
        return None
    try:
        number = Decimal("NaN") if isinstance(value, bool) else Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        number = Decimal("NaN")
    if not number.is_finite() or not 0 <= number <= most:
        raise InvalidInput(f"'{value}' is no amount", path=file, line=line, field=field)
    return number
