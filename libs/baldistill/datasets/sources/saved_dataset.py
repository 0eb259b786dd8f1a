"""Folders that Hugging Face `datasets` writes with `save_to_disk`, read with pyarrow alone.

A data set is `state.json` (names of the files), `dataset_info.json` (features) and Arrow IPC streams; a DatasetDict is
`dataset_dict.json` (names of the splits) and a folder for each. Source: datasets 5.2, `Dataset.save_to_disk`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from baldistill.datasets.sources.columnar import ROWS_PER_BATCH, batch_rows, readable
from baldistill.datasets.sources.rows import SourceRow
from baldistill.errors import InvalidInput

_STATE = "state.json"
_INFO = "dataset_info.json"
_SPLITS = "dataset_dict.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedDataset:
    """The RowSource of one split's folder. Class labels, stored as numbers, become their names."""

    path: Path
    wanted: Sequence[str]
    unit: str = "bytes"

    @property
    def total(self) -> int:
        return sum(file.stat().st_size for file in self._files())

    def columns(self) -> tuple[str, ...] | None:
        files = self._files()
        if not files:
            return ()
        with readable(files[0]), pa.memory_map(str(files[0])) as stream, pa.ipc.open_stream(stream) as reader:
            return tuple(reader.schema.names)

    def rows(self) -> Iterator[SourceRow]:
        class_names = self._class_names()
        before = 0
        for file in self._files():
            done = 0
            with readable(file), pa.memory_map(str(file)) as stream, pa.ipc.open_stream(stream) as reader:
                present = [name for name in reader.schema.names if name in self.wanted]
                for batch in reader:
                    for start in range(0, batch.num_rows, ROWS_PER_BATCH):
                        part = batch.slice(start, ROWS_PER_BATCH).select(present)
                        for line, values in batch_rows(part, path=file, first_line=done + start + 1):
                            named = _with_class_names(values, class_names, path=file, line=line)
                            yield SourceRow(path=file, line=line, values=named, position=before + stream.tell())
                    done += batch.num_rows
            before += file.stat().st_size

    def _files(self) -> list[Path]:
        state = _read_json(self.path / _STATE)
        if state.get("_indices_data_files") or state.get("_indices_files"):
            reason = "holds a selection of rows (indices); call flatten_indices() before save_to_disk()"
            raise InvalidInput(reason, path=self.path / _STATE)
        try:
            files = [self.path / str(entry["filename"]) for entry in state["_data_files"]]
        except (KeyError, TypeError):
            raise InvalidInput("does not name its data files", path=self.path / _STATE, field="_data_files") from None
        for file in files:
            if not file.is_file():
                raise InvalidInput("no such file, but state.json names it", path=file)
        return files

    def _class_names(self) -> dict[str, list[str]]:
        features = _read_json(self.path / _INFO).get("features") or {}
        return {
            name: [str(label) for label in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }


def is_saved_dataset(folder: Path) -> bool:
    """Tell whether a folder was written by `save_to_disk`."""
    return (folder / _STATE).is_file() or (folder / _SPLITS).is_file()


def split_folder(folder: Path, split: str) -> Path | None:
    """Return the folder of a split; a folder that is a single data set is its own; None where there is no such split."""
    if not (folder / _SPLITS).is_file():
        return folder
    return folder / split if split in split_names(folder) else None


def split_names(folder: Path) -> list[str]:
    """Return the names of a DatasetDict's splits, none for a single data set."""
    if not (folder / _SPLITS).is_file():
        return []
    return [str(name) for name in _read_json(folder / _SPLITS).get("splits") or ()]


def _with_class_names(
    values: Mapping[str, object], class_names: Mapping[str, list[str]], *, path: Path, line: int
) -> Mapping[str, object]:
    if not class_names.keys() & values.keys():
        return values
    named = dict(values)
    for name in class_names.keys() & values.keys():
        number = values[name]
        if isinstance(number, int):
            if not 0 <= number < len(class_names[name]):
                raise InvalidInput(f"class {number} has no name", path=path, line=line, field=name)
            named[name] = class_names[name][number]
    return named


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput("no such file; expected a folder that datasets' save_to_disk() wrote", path=path) from None
    except ValueError as error:
        raise InvalidInput(f"not JSON: {error}", path=path) from None
    if not isinstance(data, dict):
        raise InvalidInput("expected a JSON object", path=path)
    return data
