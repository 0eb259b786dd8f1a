"""The same rows out of every format, and what a damaged file is answered with."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.datasets.fields import FIELDS, FieldMap
from baldistill.datasets.importing import ImportResult, import_dataset
from baldistill.datasets.sources.formats import SourceFormat, open_sources
from baldistill.datasets.storage import iter_examples
from baldistill.errors import InvalidInput

ROWS = [
    {"id": "1", "domain": "billing", "input": 'a "quoted", and\nbroken line', "answer": "billing"},
    {"id": "2", "domain": "login", "input": "né €", "answer": "login"},
    {"id": "3", "domain": "login", "input": " spaces stay ", "answer": "login"},
]
Writer = Callable[[Path], Path]


def write_jsonl(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS), encoding="utf-8")
    return path


def write_jsonl_gz(folder: Path) -> Path:
    path = folder / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(write_jsonl(folder).read_bytes()))
    return path


def write_csv(folder: Path) -> Path:
    path = folder / "rows.csv"
    # Excel's marks: a byte order mark and CRLF.
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def write_parquet(folder: Path) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS).append_column("extra", pa.array([1.5, None, 2.0])), path)
    return path


def write_saved(folder: Path, *, rows: list[dict[str, str]] = ROWS, files: int = 2) -> Path:
    """What `Dataset.save_to_disk` writes: class labels as numbers, Arrow streams, two JSON files."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({row["answer"] for row in rows})
    table = pa.Table.from_pylist([{**row, "answer": names.index(row["answer"])} for row in rows])
    filenames = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    for number, filename in enumerate(filenames):
        with pa.OSFile(str(folder / filename), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.slice(number * 2, 2))
    state = {"_data_files": [{"filename": name} for name in filenames], "_split": "train", "_fingerprint": "0"}
    text = {"dtype": "string", "_type": "Value"}
    features = {**dict.fromkeys(("id", "domain", "input"), text), "answer": {"names": names, "_type": "ClassLabel"}}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


def write_saved_splits(folder: Path, *splits: str) -> Path:
    for number, split in enumerate(splits):
        write_saved(folder / split, rows=ROWS[: 2 - number], files=1)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
    return folder


def load(store: LocalArtifactStore, train: Path, **options: object) -> ImportResult:
    return import_dataset(store, tenant="acme", name="rows", train=train, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "write", [write_jsonl, write_jsonl_gz, write_csv, write_parquet, lambda folder: write_saved(folder / "saved")]
)
def test_every_format_gives_the_same_rows_and_the_same_version(
    store: LocalArtifactStore, tmp_path: Path, write: Writer
) -> None:
    dataset = load(store, write(tmp_path)).dataset
    rows = [
        {"id": e.example_id, "domain": e.domain, "input": e.input, "answer": e.answer}
        for e in iter_examples(store, dataset.pool)
    ]
    assert rows == ROWS
    assert dataset.version == load(store, write_jsonl(tmp_path)).dataset.version


def test_a_saved_dict_brings_its_own_test_split(store: LocalArtifactStore, tmp_path: Path) -> None:
    dataset = load(store, write_saved_splits(tmp_path / "dict", "train", "test")).dataset
    assert (dataset.pool.rows, dataset.test.rows) == (1, 1)  # the first row is in both
    assert dataset.removed["in_test"] == 1


def test_a_saved_dict_without_a_train_split_names_its_splits(store: LocalArtifactStore, tmp_path: Path) -> None:
    folder = write_saved_splits(tmp_path / "dict", "validation")
    with pytest.raises(InvalidInput, match="has no split 'train', only validation"):
        load(store, folder)
    assert load(store, folder / "validation").dataset.pool.rows == 2


def test_a_class_without_a_name_is_refused(store: LocalArtifactStore, tmp_path: Path) -> None:
    folder = write_saved(tmp_path / "saved")
    info = json.loads((folder / "dataset_info.json").read_text())
    info["features"]["answer"]["names"] = ["billing"]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(InvalidInput, match=r"00000-of-00002.arrow:2: field 'answer': class 1 has no name"):
        load(store, folder)


@pytest.mark.parametrize("write", [write_csv, write_parquet, lambda folder: write_saved(folder / "saved")])
def test_a_missing_field_is_named_with_those_that_are_there(
    store: LocalArtifactStore, tmp_path: Path, write: Writer
) -> None:
    with pytest.raises(InvalidInput, match="field 'question': missing, found id, domain, input, answer") as caught:
        load(store, write(tmp_path), fields=FieldMap(names={"input": "question"}))
    assert "--map input=NAME" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("id,domain,input,answer\n1,a,b\n", 2, "3 values, but the header has 4 fields"),
        ('id,domain,input,answer\n1,a,"x\ny",b\n2,a,"b"c,d\n', 4, "malformed CSV"),
        ('id,domain,input,answer\n1,a,"b,c\n', 2, "malformed CSV: unexpected end of data"),
        ("id,domain,input,answer\n\n\n1,a,,c\n", 4, "is empty"),
        ("id,id,domain,input,answer\n1,1,a,b,c\n", 1, "stands twice in the header"),
        (f"id,domain,input,answer\n1,a,{'x' * 140_000},c\n", 2, "use JSONL or Parquet"),
        ("", None, "the pool is empty"),
    ],
)
def test_a_malformed_csv_file_is_named_by_line(
    store: LocalArtifactStore, tmp_path: Path, text: str, line: int | None, reason: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        load(store, path)
    assert (caught.value.path, caught.value.line) == (path, line)
    assert reason in str(caught.value)


@pytest.mark.parametrize("column", ["domain", "id"])
def test_a_parquet_row_is_named_by_its_number(store: LocalArtifactStore, tmp_path: Path, column: str) -> None:
    path = tmp_path / "rows.parquet"
    rows: list[Mapping[str, object]] = [*ROWS, {**ROWS[0], column: None}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(InvalidInput, match=rf"rows.parquet:4: field '{column}': is null"):
        load(store, path)


def test_integer_ids_are_ids_but_integer_texts_are_no_texts(store: LocalArtifactStore, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table.set_column(0, "id", pa.array([7, 8, 9])), path)
    assert [e.example_id for e in iter_examples(store, load(store, path).dataset.pool)] == ["7", "8", "9"]
    pq.write_table(table.set_column(2, "input", pa.array([7, 8, 9])), path)
    with pytest.raises(InvalidInput, match=r"rows.parquet:1: field 'input': is a number, expected text"):
        load(store, path)


def test_text_that_is_not_utf8_is_named_by_row_and_field(store: LocalArtifactStore, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.Table.from_pylist(ROWS)
    raw = pa.array([b"fine", b"\xff", b"fine"]).view(pa.string())
    pq.write_table(table.set_column(2, "input", raw), path)
    with pytest.raises(InvalidInput, match=r"rows.parquet:2: field 'input': not UTF-8"):
        load(store, path)


@pytest.mark.parametrize("write", [write_parquet, lambda folder: write_saved(folder / "saved")])
@pytest.mark.parametrize("damage", [b"", b"no such format at all", None])
def test_a_damaged_columnar_file_is_one_line(
    store: LocalArtifactStore, tmp_path: Path, write: Writer, damage: bytes | None
) -> None:
    path = write(tmp_path)
    file = min(path.glob("*.arrow")) if path.is_dir() else path
    file.write_bytes(file.read_bytes()[:-40] if damage is None else damage)
    with pytest.raises(InvalidInput, match="cannot be read") as caught:
        load(store, path)
    assert caught.value.path == file
    assert "\n" not in str(caught.value)


def test_a_saved_folder_that_lacks_a_file_names_it(store: LocalArtifactStore, tmp_path: Path) -> None:
    folder = write_saved(tmp_path / "saved")
    (folder / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(InvalidInput, match=r"data-00001-of-00002.arrow: no such file, but state.json names it"):
        load(store, folder)
    (folder / "state.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"state.json: field '_data_files': does not name its data files"):
        load(store, folder)


def test_a_named_format_overrides_the_name_of_the_file(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path).rename(tmp_path / "rows.txt")
    source = open_sources(path, None, columns=FIELDS, source_format=SourceFormat.JSONL).train
    assert [row.values for row in source.rows()] == ROWS
    with pytest.raises(InvalidInput, match="is not a folder, which format hf cannot be"):
        open_sources(path, None, columns=FIELDS, source_format=SourceFormat.HF)
