"""Real long-tailed data imports with the counts that its own files give."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.datasets.importing import import_dataset
from baldistill.datasets.storage import iter_examples

pytestmark = pytest.mark.data

# data/README.md: rows of the files, domains, and test inputs that are also in train.
PUBLISHED = {"trec50": (5452, 500, 50, 10), "r8": (5485, 2189, 8, 4), "r52": (6561, 2570, 52, 1)}


def read(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_data_set_imports_with_its_known_counts(real_data: Path, tmp_path: Path, name: str) -> None:
    train_rows, test_rows, domains, overlap = PUBLISHED[name]
    folder = real_data / name
    train, test = read(folder / "train.jsonl.gz"), read(folder / "test.jsonl.gz")
    # Once more by hand: the first row of each content, less what the test set asks.
    first = list({(row["domain"], row["input"], row["answer"]): row for row in reversed(train)}.values())[::-1]
    asked = {row["input"] for row in test}
    kept = [row for row in first if row["input"] not in asked]

    store = LocalArtifactStore(tmp_path)
    dataset = import_dataset(
        store, tenant="default", name=name, train=folder / "train.jsonl.gz", test=folder / "test.jsonl.gz"
    ).dataset

    assert (len(train), len(test), len(dataset.domains), len(dataset.labels)) == (
        train_rows,
        test_rows,
        domains,
        domains,
    )
    assert len(first) - len(kept) == overlap
    assert dataset.removed == {"duplicate": len(train) - len(first), "in_test": overlap, "test_duplicate": 0}
    assert (dataset.pool.rows, dataset.test.rows) == (len(kept), test_rows)
    assert {domain: counts.pool for domain, counts in dataset.domains.items()} == Counter(row["domain"] for row in kept)
    assert {domain: counts.test for domain, counts in dataset.domains.items() if counts.test} == Counter(
        row["domain"] for row in test
    )
    assert {example.example_id for example in iter_examples(store, dataset.pool)} == {row["id"] for row in kept}
    assert [example.example_id for example in iter_examples(store, dataset.test)] == [row["id"] for row in test]
