"""What counts as an answer is looked up in the data, and data that contradict their task are refused by item and field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactStore
from baldistill.datasets.examples import Dataset
from baldistill.datasets.importing import import_dataset
from baldistill.errors import InvalidInput
from baldistill.tasks.kinds import TaskKind
from baldistill.tasks.registry import task_of
from services.policy.labels import labels_of_run, shows_labels

Import = Callable[[list[str], list[str]], Dataset]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return LocalArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def imported(store: ArtifactStore, tmp_path: Path) -> Import:
    """Imports a pool and a test set with these answers; items are called pool-0, pool-1, ..., test-0, ..."""

    def do(pool: list[str], test: list[str]) -> Dataset:
        for name, answers in (("pool", pool), ("test", test)):
            rows = [
                {"id": f"{name}-{number}", "domain": "d", "input": f"{name} text {number}", "answer": answer}
                for number, answer in enumerate(answers)
            ]
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        train, given_test = tmp_path / "pool.jsonl", tmp_path / "test.jsonl"
        return import_dataset(store, tenant="default", name="d", train=train, test=given_test).dataset

    return do


def labels(kind: TaskKind, dataset: Dataset, store: ArtifactStore) -> tuple[str, ...]:
    return labels_of_run(task_of(kind), dataset, store=store)


@pytest.mark.parametrize(
    ("kind", "pool", "test", "expected"),
    [
        (TaskKind.CLASSIFICATION, ["b", "a", "b"], ["a"], ("a", "b")),
        (TaskKind.MULTI_LABEL, ["c; a", "b"], ["a; b"], ("a", "b", "c")),
        (TaskKind.MULTIPLE_CHOICE, ["B", "A"], ["C"], ("A", "B", "C")),  # a letter need not have been learned
        (TaskKind.MATH, ["1", "2"], ["3"], ()),
        (TaskKind.ABSTRACTIVE_QA, ["Paul"], ["John"], ()),
    ],
)
def test_labels_are_what_the_pools_answers_hold(
    kind: TaskKind, pool: list[str], test: list[str], expected: tuple[str, ...], imported: Import, store: ArtifactStore
) -> None:
    assert labels(kind, imported(pool, test), store) == expected


@pytest.mark.parametrize(
    ("kind", "pool", "test", "named"),
    [
        (TaskKind.CLASSIFICATION, ["a", "b"], ["a", "c"], r"test item 'test-1', answer 'c': .* has the label 'c'"),
        (TaskKind.MULTI_LABEL, ["a; b"], ["a", "b; c"], r"test item 'test-1', answer 'b; c': .* has the label 'c'"),
        (TaskKind.MULTI_LABEL, ["a", " ; "], ["a"], r"pool item 'pool-1', answer ' ; ': names no label"),
        (TaskKind.CLASSIFICATION, ["a", "<none>"], ["a"], r"pool item 'pool-1', answer '<none>': names no label"),
        (TaskKind.MULTIPLE_CHOICE, ["A", "ice cream"], ["A"], r"pool item 'pool-1', answer 'ice cream': is no option"),
        (TaskKind.MULTIPLE_CHOICE, ["A"], ["A", "1"], r"test item 'test-1', answer '1': is no option"),
    ],
)
def test_an_answer_that_contradicts_the_task_is_refused_by_item_and_field(
    kind: TaskKind, pool: list[str], test: list[str], named: str, imported: Import, store: ArtifactStore
) -> None:
    with pytest.raises(InvalidInput, match=named) as caught:
        labels(kind, imported(pool, test), store)
    assert caught.value.field == "task.kind"


def test_free_text_is_no_classification(imported: Import, store: ArtifactStore) -> None:
    answers = [f"answer {number}" for number in range(1001)]
    dataset = imported(answers, answers[:1])
    for kind in (TaskKind.CLASSIFICATION, TaskKind.MULTI_LABEL):
        with pytest.raises(InvalidInput, match=f"more than 1,000 distinct labels: not a {kind.value}"):
            labels(kind, dataset, store)
    assert labels(TaskKind.MATH, dataset, store) == ()


def test_few_labels_are_shown_to_the_student_and_letters_never() -> None:
    single, letters = task_of(TaskKind.CLASSIFICATION), task_of(TaskKind.MULTIPLE_CHOICE)
    sixteen = tuple("abcdefghijklmnop")
    assert shows_labels(single, sixteen, list_labels="auto")
    assert not shows_labels(single, (*sixteen, "q"), list_labels="auto")
    assert shows_labels(single, (*sixteen, "q"), list_labels="yes")
    assert not shows_labels(single, ("a",), list_labels="no")
    assert not shows_labels(letters, ("A", "B"), list_labels="yes")
