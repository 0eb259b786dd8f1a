"""Every bad file is one line that names file, line and field, and leaves nothing behind."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.datasets.fields import FieldMap, parse_field_map
from baldistill.datasets.importing import import_dataset
from baldistill.errors import InvalidInput

Row = Callable[..., dict[str, object]]
Jsonl = Callable[..., Path]
GOOD = '{"id": "1", "domain": "billing", "input": "hello", "answer": "billing"}'


def refusal(
    store: LocalArtifactStore, train: Path, test: Path | None = None, fields: FieldMap | None = None
) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        import_dataset(store, tenant="acme", name="tickets", train=train, test=test, fields=fields)
    return caught.value


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        ('{"id": "2", "domain"', None, "malformed JSON: "),
        ("[1, 2]", None, "expected a JSON object"),
        ('{"id": "2", "domain": "b", "input": "x"}', "answer", "missing, found id, domain, input; map another one (--map answer=NAME)"),
        ('{"domain": "b", "input": "x", "answer": "b"}', "id", "or number the rows (--make-ids)"),
        ('{"id": null, "domain": "b", "input": "x", "answer": "b"}', "id", "is null, expected text"),
        ('{"id": true, "domain": "b", "input": "x", "answer": "b"}', "id", "is true or false, expected text"),
        ('{"id": "2", "domain": 3, "input": "x", "answer": "b"}', "domain", "is a number, expected text"),
        ('{"id": "2", "domain": "b", "input": ["x"], "answer": "b"}', "input", "is a list, expected text"),
        ('{"id": "2", "domain": "", "input": "x", "answer": "b"}', "domain", "is empty"),
        ('{"id": "2", "domain": "b", "input": " \\t", "answer": "b"}', "input", "is empty"),
        ('{"id": "2", "domain": "b", "input": "x", "answer": ""}', "answer", "is empty"),
        ('{"id": "2", "domain": "b", "input": "\\ud83d", "answer": "b"}', "input", "lone surrogate at character 1"),
        ('{"id": "2", "domain": "b\\u0000", "input": "x", "answer": "b"}', "domain", "has a NUL character"),
        ('{"id": "1", "domain": "b", "input": "x", "answer": "b"}', "id", "'1' stands above two rows with different content"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_by_file_line_and_field(
    store: LocalArtifactStore, jsonl: Jsonl, tmp_path: Path, line: str, field: str | None, reason: str
) -> None:
    train = jsonl([GOOD, "", line])
    error = refusal(store, train)
    assert (error.path, error.line, error.field) == (train, 3, field)
    assert reason in str(error)
    assert "\n" not in str(error)
    assert str(error).startswith(f"{train}:3: ")
    assert error.exit_code != 0
    assert not (tmp_path / "artifacts").exists()


def test_bytes_that_are_not_utf8_are_named_by_line(store: LocalArtifactStore, tmp_path: Path) -> None:
    train = tmp_path / "train.jsonl"
    train.write_bytes(GOOD.encode() + b'\n{"id": "\xff"}\n')
    assert str(refusal(store, train)) == f"{train}:2: not UTF-8: byte 0xff at byte 9 of the line"


@pytest.mark.parametrize("cut", [5, -9])
def test_a_damaged_gzip_file_is_refused(store: LocalArtifactStore, tmp_path: Path, cut: int) -> None:
    train = tmp_path / "train.jsonl.gz"
    train.write_bytes(gzip.compress(GOOD.encode() * 100)[:cut])
    assert "damaged gzip file" in str(refusal(store, train))
    train.write_bytes(b"plain text")
    assert "damaged gzip file" in str(refusal(store, train))


def test_a_bad_test_file_is_refused_before_anything_is_stored(
    store: LocalArtifactStore, jsonl: Jsonl, tmp_path: Path
) -> None:
    test = jsonl([GOOD, "{"], "test.jsonl")
    assert refusal(store, jsonl([GOOD]), test).path == test
    assert not (tmp_path / "artifacts").exists()


def test_an_empty_pool_says_why_it_is_empty(store: LocalArtifactStore, jsonl: Jsonl) -> None:
    assert "the pool is empty: the file has no rows" in str(refusal(store, jsonl([])))
    everything_is_asked = refusal(store, jsonl([GOOD]), jsonl([GOOD], "test.jsonl"))
    assert "no row is left for the pool (1 in_test removed)" in str(everything_is_asked)
    assert "the test file has no rows" in str(refusal(store, jsonl([GOOD]), jsonl([], "test.jsonl")))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent.jsonl", "no such file"),
        ("data.txt", "cannot tell the format"),
        ("folder", "is a folder, but not one that"),
    ],
)
def test_a_path_that_cannot_be_a_source_is_refused(
    store: LocalArtifactStore, tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "data.txt").write_text(GOOD)
    (tmp_path / "folder").mkdir()
    assert reason in str(refusal(store, tmp_path / name))


@pytest.mark.parametrize("name", ["Tickets", "a/b", "", "../x", "-x"])
def test_names_that_could_not_be_keys_are_refused(store: LocalArtifactStore, jsonl: Jsonl, name: str) -> None:
    with pytest.raises(InvalidInput, match="field 'name'"):
        import_dataset(store, tenant="acme", name=name, train=jsonl([GOOD]))


def test_a_map_of_unknown_or_malformed_fields_is_refused() -> None:
    assert parse_field_map("input=question, answer=label") == {"input": "question", "answer": "label"}
    with pytest.raises(InvalidInput, match="no field 'question' to map"):
        FieldMap(names=parse_field_map("question=input"))
    with pytest.raises(InvalidInput, match="is not of the form"):
        parse_field_map("input")


def test_mapped_fields_are_read_and_named_as_in_the_file(store: LocalArtifactStore, jsonl: Jsonl) -> None:
    fields = FieldMap(names={"input": "text", "answer": "label", "domain": "label"})
    train = jsonl([{"id": 1, "text": "a", "label": "x"}, {"id": 2, "text": "b", "label": ""}])
    assert refusal(store, train, fields=fields).field == "label"


def test_ids_are_made_only_where_that_was_said(store: LocalArtifactStore, jsonl: Jsonl, row: Row) -> None:
    rows = [{key: value for key, value in row(n).items() if key != "id"} for n in range(2)]
    train = jsonl([json.dumps(rows[0]), "", json.dumps(rows[1])])
    assert "--make-ids" in str(refusal(store, train))
    result = import_dataset(store, tenant="acme", name="tickets", train=train, fields=FieldMap(make_ids=True))
    assert [line["id"] for line in _pool(store, result.dataset.pool)] == ["row-1", "row-2"]


def _pool(store: LocalArtifactStore, ref: object) -> list[dict[str, str]]:
    from baldistill.artifacts.tables import read_table

    return list(read_table(store, ref))  # type: ignore[arg-type]
