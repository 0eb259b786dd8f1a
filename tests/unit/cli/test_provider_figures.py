"""Files with a provider's figures: read as they are written, refused by file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from baldistill.errors import InvalidInput
from services.cli.provider_figures import read_figures
from services.teacher_gateway.ledger.budgets import BudgetPath


def test_a_table_names_tenants_and_runs(tmp_path: Path) -> None:
    file = tmp_path / "bill.csv"
    file.write_text("\ufefftenant, run, calls, tokens, usd\n acme,, 12, 3400, 0.1234567891\n\nacme,r1,7,,\n")
    tenant, run = read_figures(file)
    assert (tenant.path, tenant.calls, tenant.tokens) == (BudgetPath(tenant="acme"), 12, 3400)
    # Rounded up: at least what was billed.
    assert tenant.nano_usd == 123_456_790
    assert (run.path, run.calls, run.tokens, run.nano_usd) == (BudgetPath(tenant="acme", run_id="r1"), 7, None, None)
    assert (tenant.place, run.place) == (f"{file}:2", f"{file}:4")


def test_a_list_of_objects_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "bill.JSON"
    file.write_text('[{"tenant": "acme", "calls": 12, "usd": 0.1}, {"tenant": "acme", "run": "r1", "calls": "7"}]')
    tenant, run = read_figures(file)
    assert (tenant.calls, tenant.nano_usd, run.calls, run.path.run_id) == (12, 100_000_000, 7, "r1")


@pytest.mark.parametrize(
    ("text", "line", "field", "reason"),
    [
        ("", 1, "tenant", "is missing"),
        ("tenant\nacme\n", 1, "calls", "is missing"),
        ("tenant,calls,cost\nacme,1,2\n", 1, "cost", "is not known"),
        ("tenant,calls,calls\nacme,1,2\n", 1, "calls", "is there twice"),
        ("tenant,calls\nacme,1\nacme\n", 3, None, "1 cells, the header has 2"),
        ("tenant,calls\n,1\n", 2, "tenant", "is empty"),
        ("tenant,calls\nacme,\n", 2, "calls", "is empty"),
        ("tenant,calls\nacme,-1\n", 2, "calls", "'-1' is no amount"),
        ("tenant,calls\nacme,1.5\n", 2, "calls", "is no whole number"),
        ("tenant,calls\nacme,nan\n", 2, "calls", "'nan' is no amount"),
        ("tenant,calls,usd\nacme,1,1e30\n", 2, "usd", "is no amount"),
        ("tenant,calls,usd\nacme,1,five\n", 2, "usd", "'five' is no amount"),
        ('tenant,calls\n"acme,1\n', 2, None, "is no CSV"),
        ("tenant,calls\n", None, None, "has no figures"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(
    tmp_path: Path, text: str, line: int | None, field: str | None, reason: str
) -> None:
    file = tmp_path / "bill.csv"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=reason) as raised:
        read_figures(file)
    assert (raised.value.path, raised.value.line, raised.value.field) == (file, line, field)


@pytest.mark.parametrize(
    ("text", "line", "field", "reason"),
    [
        ("[\n{", 2, None, "is no JSON"),
        ('{"tenant": "acme"}', None, None, "is no list"),
        ('["acme"]', 1, None, "is no object"),
        ('[{"tenant": "a", "calls": 1}, {"tenant": 7, "calls": 1}]', 2, "tenant", "is no text"),
        ('[{"tenant": "a", "calls": true}]', 1, "calls", "is no amount"),
        ('[{"tenant": "a", "calls": [1]}]', 1, "calls", "is no amount"),
        ("[]", None, None, "has no figures"),
    ],
)
def test_what_is_wrong_in_a_list_is_named(
    tmp_path: Path, text: str, line: int | None, field: str | None, reason: str
) -> None:
    file = tmp_path / "bill.json"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=reason) as raised:
        read_figures(file)
    assert (raised.value.line, raised.value.field) == (line, field)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_figures(tmp_path / "none.csv")
