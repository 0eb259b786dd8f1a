"""Importers of published layouts agree item by item with sets that were converted by other code; the ladder of trec50."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.datasets.fields import FIELDS
from baldistill.datasets.importers.opening import OriginalLayout, OriginalOptions, open_original
from baldistill.datasets.importers.original_rows import OriginalRows
from baldistill.datasets.importers.reuters_sgml import ReutersView
from baldistill.datasets.importing import import_dataset
from baldistill.datasets.longtail import Ladder
from baldistill.datasets.storage import iter_examples
from baldistill.datasets.thinning import store_long_tail

pytestmark = pytest.mark.data


def converted(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def imported(rows: OriginalRows | None) -> Iterator[dict[str, object]]:
    assert rows is not None
    return ({name: row.values[name] for name in FIELDS} for row in rows.rows())


@pytest.mark.parametrize(
    ("view", "name", "suffix", "train_rows", "test_rows"),
    [
        (ReutersView.R52, "r52", "", 6561, 2570),
        (ReutersView.PAIRS, "reuters", "", 9585, 3744),
        (ReutersView.DOCUMENTS, "reuters", ".docs", 7770, 3019),
    ],
)
def test_every_reuters_item_agrees(
    real_data: Path, view: ReutersView, name: str, suffix: str, train_rows: int, test_rows: int
) -> None:
    train, test = open_original(
        real_data / "raw" / "reuters21578.tar.gz",
        None,
        layout=OriginalLayout.REUTERS_SGML,
        options=OriginalOptions(reuters=view),
    )
    ours = {"train": list(imported(train)), "test": list(imported(test))}
    assert ours["train"] == converted(real_data / name / f"train{suffix}.jsonl.gz")
    assert ours["test"] == converted(real_data / name / f"test{suffix}.jsonl.gz")
    assert (len(ours["train"]), len(ours["test"])) == (train_rows, test_rows)


def test_every_math_item_and_solution_agrees(real_data: Path) -> None:
    # The original has two problems with an empty answer; the converted set left them out.
    options = OriginalOptions(skip_empty_answers=True)
    raw = real_data / "raw" / "MATH.tar.gz"
    for split, rows in zip(
        ("train", "test"), open_original(raw, None, layout=OriginalLayout.MATH_FOLDER, options=options), strict=True
    ):
        assert rows is not None
        ours = [row.values for row in rows.rows()]
        assert [{name: row[name] for name in FIELDS} for row in ours] == converted(real_data / f"math/{split}.jsonl.gz")
        solutions = converted(real_data / f"math/{split}.rationales.jsonl.gz")
        assert [(row["id"], row["rationale"]) for row in ours] == [(one["id"], one["rationale"]) for one in solutions]


def test_every_gsm8k_test_item_and_solution_agrees(real_data: Path) -> None:
    # Of the original only the test file is at hand.
    raw = real_data / "raw" / "gsm8k-test.jsonl"
    _, rows = open_original(raw, raw, layout=OriginalLayout.GSM8K, options=OriginalOptions())
    assert rows is not None
    ours = [row.values for row in rows.rows()]
    assert [{name: row[name] for name in FIELDS} for row in ours] == converted(real_data / "gsm8k/test.jsonl.gz")
    solutions = converted(real_data / "gsm8k/test.rationales.jsonl.gz")
    assert [row["rationale"] for row in ours] == [one["rationale"] for one in solutions]


def test_every_trec_question_agrees(real_data: Path) -> None:
    raw = real_data / "raw"
    train, test = open_original(
        raw / "train_5500.label", raw / "TREC_10.label", layout=OriginalLayout.TREC, options=OriginalOptions()
    )
    assert list(imported(train)) == converted(real_data / "trec50/train.jsonl.gz")
    assert list(imported(test)) == converted(real_data / "trec50/test.jsonl.gz")


def test_published_r52_lines_are_the_sgml_s_documents_in_letters_only(real_data: Path) -> None:
    """No set was converted from these lines. Their text is that of the SGML in lower-case letters."""
    raw = real_data / "raw"
    train, test = open_original(
        raw / "r52-train-all-terms.txt.gz",
        raw / "r52-test-all-terms.txt",
        layout=OriginalLayout.TOPIC_TEXT,
        options=OriginalOptions(name="r52"),
    )
    lines = {"train": list(imported(train)), "test": list(imported(test))}
    assert {split: len(rows) for split, rows in lines.items()} == {"train": 6532, "test": 2568}
    for split, rows in lines.items():
        of_sgml = Counter(
            (row["domain"], letters(row["input"])) for row in converted(real_data / f"r52/{split}.jsonl.gz")
        )
        published = Counter((str(row["domain"]), letters(str(row["input"]))) for row in rows)
        # The published set asks for one topic among all, not among 90: all its documents are ours, ours has a few more.
        assert not published - of_sgml
        assert len(rows) <= of_sgml.total()


def letters(text: str) -> str:
    """Return a text as the published files have it; they keep the agency's signature."""
    return " ".join(word for word in re.findall(r"[a-z]+", text.lower()) if word != "reuter")


def test_the_ladder_of_trec50_has_the_figures_that_the_study_names(real_data: Path, tmp_path: Path) -> None:
    store, folder = LocalArtifactStore(tmp_path), real_data / "trec50"
    source = import_dataset(
        store, tenant="default", name="trec50", train=folder / "train.jsonl.gz", test=folder / "test.jsonl.gz"
    ).dataset
    cut = store_long_tail(store, source, Ladder(test_per_domain=20, head=200, tail=3, min_items=60, seed=1), name="lt")
    dataset = cut.dataset
    assert dataset.oracle is not None
    assert (len(dataset.domains), dataset.pool.rows, dataset.test.rows) == (23, 1136, 460)
    assert {counts.test for counts in dataset.domains.values()} == {20}
    assert sorted(counts.pool for counts in dataset.domains.values())[::22] == [3, 200]
    assert cut.removed == {"duplicate": 1, "small_domain": 653}
    inputs = [{one.input for one in iter_examples(store, ref)} for ref in (dataset.pool, dataset.test, dataset.oracle)]
    assert [len(one) for one in inputs] == [1136, 460, dataset.oracle.rows]
    assert len(set.union(*inputs)) == 1136 + 460 + dataset.oracle.rows == 5872 - 1 - 653
