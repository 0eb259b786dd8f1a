"""What an import keeps, drops, counts and promises."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.datasets.examples import DomainCounts
from baldistill.datasets.importing import import_dataset
from baldistill.datasets.storage import (
    iter_examples,
    latest_version,
    list_datasets,
    list_versions,
    load_dataset,
    record_import,
)
from baldistill.datasets.versions import import_scratch
from baldistill.errors import InvalidInput, StorageFull

Row = Callable[..., dict[str, object]]
Jsonl = Callable[..., Path]


def load(store: LocalArtifactStore, train: Path, test: Path | None = None, **options: object):  # type: ignore[no-untyped-def]
    return import_dataset(store, tenant="acme", name="tickets", train=train, test=test, **options)  # type: ignore[arg-type]


def test_rows_keep_the_order_of_their_file(store: LocalArtifactStore, jsonl: Jsonl, row: Row) -> None:
    numbers = [3, 1, 2]
    result = load(store, jsonl([row(n) for n in numbers]), jsonl([row(9)], "test.jsonl"))
    assert [e.example_id for e in iter_examples(store, result.dataset.pool)] == ["billing-3", "billing-1", "billing-2"]
    assert [e.example_id for e in iter_examples(store, result.dataset.test)] == ["billing-9"]


def test_duplicates_and_test_overlap_leave_the_pool_and_are_counted(
    store: LocalArtifactStore, jsonl: Jsonl, row: Row
) -> None:
    train = jsonl(
        [
            row(1),
            row(1),  # the same id with the same content
            row(2),
            row(2, id="other"),  # the same content under another id
            row(2, id="third", answer="login"),  # the same input with another answer is another example
            row(3, answer="login"),  # asked in the test set, whatever the answer
            row(3, answer="login", id="again"),  # a duplicate first of all
        ]
    )
    result = load(store, train, jsonl([row(3)], "test.jsonl"))
    assert [e.example_id for e in iter_examples(store, result.dataset.pool)] == ["billing-1", "billing-2", "third"]
    assert result.removed == {"duplicate": 3, "in_test": 1, "test_duplicate": 0}
    assert result.dataset.removed == result.removed


def test_a_given_test_set_is_left_as_it_is_but_for_literal_repetitions(
    store: LocalArtifactStore, jsonl: Jsonl, row: Row
) -> None:
    test = jsonl([row(7), row(7), row(7, id="twin")], "test.jsonl")
    result = load(store, jsonl([row(1)]), test)
    assert [e.example_id for e in iter_examples(store, result.dataset.test)] == ["billing-7", "twin"]
    assert result.removed["test_duplicate"] == 1


def test_counts_per_domain_know_the_longest_texts_in_bytes(store: LocalArtifactStore, jsonl: Jsonl, row: Row) -> None:
    result = load(
        store,
        jsonl([row(1, input="né"), row(2, input="abcd", answer="é"), row(1, domain="login")]),
        jsonl([row(3, input="abcdef"), row(1, domain="rare")], "test.jsonl"),
    )
    assert result.dataset.domains == {
        "billing": DomainCounts(pool=2, test=1, longest_input_bytes=6, longest_answer_bytes=7),
        "login": DomainCounts(pool=1, test=0, longest_input_bytes=16, longest_answer_bytes=5),
        "rare": DomainCounts(pool=0, test=1, longest_input_bytes=15, longest_answer_bytes=4),
    }
    assert result.dataset.labels == ("billing", "login", "rare", "é")


@pytest.mark.parametrize(("answers", "labels"), [(1000, 1000), (1001, 0)])
def test_more_than_a_thousand_answers_are_free_text(
    store: LocalArtifactStore, jsonl: Jsonl, row: Row, answers: int, labels: int
) -> None:
    train = jsonl([row(n, answer=f"answer {n}") for n in range(answers)])
    assert len(load(store, train).dataset.labels) == labels


def test_at_most_a_fifth_of_each_domain_is_held_out(store: LocalArtifactStore, jsonl: Jsonl, row: Row) -> None:
    sizes = {"a": 1, "b": 4, "c": 5, "d": 9, "e": 10, "f": 104}
    train = jsonl([row(n, domain=domain) for domain, size in sizes.items() for n in range(size)])
    dataset = load(store, train).dataset
    assert {name: counts.test for name, counts in dataset.domains.items()} == {
        "a": 0, "b": 0, "c": 1, "d": 1, "e": 2, "f": 20,
    }  # fmt: skip
    assert dataset.pool.rows + dataset.test.rows == sum(sizes.values())
    held_out = {e.example_id for e in iter_examples(store, dataset.test)}
    assert held_out.isdisjoint(e.example_id for e in iter_examples(store, dataset.pool))


def test_the_held_out_split_depends_on_the_seed_and_the_ids_alone(
    store: LocalArtifactStore, jsonl: Jsonl, row: Row
) -> None:
    rows = [row(n) for n in range(50)]

    def held_out(train: Path, seed: int) -> set[str]:
        return {e.example_id for e in iter_examples(store, load(store, train, seed=seed).dataset.test)}

    first = held_out(jsonl(rows), 1)
    assert held_out(jsonl(rows[::-1], "reversed.jsonl"), 1) == first
    assert held_out(jsonl(rows), 2) != first


def test_a_smaller_share_holds_out_less(store: LocalArtifactStore, jsonl: Jsonl, row: Row) -> None:
    train = jsonl([row(n) for n in range(100)])
    assert load(store, train, held_out_share=Fraction("0.07")).dataset.test.rows == 7
    with pytest.raises(InvalidInput, match=r"held_out_share.*at most 0\.2"):
        load(store, train, held_out_share=Fraction("0.3"))


def test_an_input_that_several_rows_share_is_never_held_out(store: LocalArtifactStore, jsonl: Jsonl, row: Row) -> None:
    shared = [row(n, input="the same", answer=f"label {n}") for n in range(9)]
    dataset = load(store, jsonl([*shared, row(10)])).dataset
    assert [e.example_id for e in iter_examples(store, dataset.test)] == ["billing-10"]  # 10 rows ask for 2
    assert dataset.removed == {"duplicate": 0, "in_test": 0}


def test_the_same_content_again_is_the_same_version_and_changes_nothing(
    store: LocalArtifactStore, jsonl: Jsonl, row: Row
) -> None:
    rows = [row(n) for n in range(10)]
    first = load(store, jsonl(rows))
    again = load(store, jsonl([*rows, rows[0]], "with-duplicate.jsonl"))
    assert (first.created, first.became_latest) == (True, True)
    assert (again.created, again.became_latest) == (False, False)
    assert again.dataset == first.dataset
    assert len(first.dataset.version) == 12
    assert list_datasets(store, tenant="acme") == {"tickets": [first.dataset.version]}


def test_another_content_is_another_version_and_both_stay(store: LocalArtifactStore, jsonl: Jsonl, row: Row) -> None:
    first = load(store, jsonl([row(1)])).dataset
    second = load(store, jsonl([row(2)])).dataset
    assert list_datasets(store, tenant="acme") == {"tickets": [first.version, second.version]}
    assert load_dataset(store, tenant="acme", name="tickets", version=first.version) == first
    assert latest_version(store, tenant="acme", name="tickets") == second.version


def test_importing_an_older_version_again_makes_it_the_newest(
    store: LocalArtifactStore, jsonl: Jsonl, row: Row
) -> None:
    first = load(store, jsonl([row(1)])).dataset
    load(store, jsonl([row(2)]))
    again = load(store, jsonl([row(1)]))
    assert (again.created, again.became_latest) == (False, True)
    assert latest_version(store, tenant="acme", name="tickets") == first.version


def test_an_import_that_died_before_its_last_step_is_finished_by_the_next(
    store: LocalArtifactStore, jsonl: Jsonl, row: Row, tmp_path: Path
) -> None:
    first = load(store, jsonl([row(1)])).dataset
    for entry in (tmp_path / "artifacts/tenants/acme/datasets/tickets/imports").iterdir():
        entry.unlink()
    assert latest_version(store, tenant="acme", name="tickets") is None
    again = load(store, jsonl([row(1)]))
    assert (again.created, again.became_latest, again.dataset) == (False, True, first)


def test_recording_the_newest_twice_adds_no_entry(store: LocalArtifactStore, tmp_path: Path) -> None:
    for version in ("one", "two", "two", "one"):
        record_import(store, tenant="acme", name="tickets", version=version)
    entries = list((tmp_path / "artifacts/tenants/acme/datasets/tickets/imports").iterdir())
    assert len(entries) == 3
    assert latest_version(store, tenant="acme", name="tickets") == "one"


def test_tenants_and_names_are_apart(store: LocalArtifactStore, jsonl: Jsonl, row: Row) -> None:
    load(store, jsonl([row(1)]))
    assert latest_version(store, tenant="other", name="tickets") is None
    assert list_datasets(store, tenant="other") == {}


def test_an_unknown_data_set_or_version_is_answered_with_what_is_known(
    store: LocalArtifactStore, jsonl: Jsonl, row: Row
) -> None:
    with pytest.raises(InvalidInput, match=r"no data set 'x' in tenant 'acme'; none was imported yet"):
        load_dataset(store, tenant="acme", name="x", version="1")
    version = load(store, jsonl([row(1)])).dataset.version
    with pytest.raises(InvalidInput, match=r"no data set 'x' in tenant 'acme'; known: tickets"):
        load_dataset(store, tenant="acme", name="x", version="1")
    with pytest.raises(InvalidInput, match=rf"'tickets' has no version '1'; known: {version}"):
        load_dataset(store, tenant="acme", name="tickets", version="1")


def test_progress_ends_where_it_should(store: LocalArtifactStore, jsonl: Jsonl, row: Row) -> None:
    seen: list[tuple[str, int, int, str]] = []

    def progress(*, step: str, done: int, total: int, unit: str) -> None:
        seen.append((step, done, total, unit))

    train = jsonl([row(n) for n in range(2500)])
    load(store, train, progress=progress)
    assert all(done <= total for _, done, total, _ in seen)
    last = {step: (done, total) for step, done, total, _ in seen}
    assert list(last) == ["read train", "hold out test items", "write pool"]
    assert all(done == total for done, total in last.values())
    assert Counter(unit for _, _, _, unit in seen)["bytes"] >= 2


def test_imports_at_the_same_moment_are_all_recorded(store: LocalArtifactStore) -> None:
    versions = [f"version-{number}" for number in range(6)]
    with ThreadPoolExecutor(max_workers=6) as threads:
        list(threads.map(lambda one: record_import(store, tenant="acme", name="tickets", version=one), versions))
    assert sorted(list_versions(store, tenant="acme", name="tickets")) == sorted(versions)
    assert latest_version(store, tenant="acme", name="tickets") in versions


def test_a_full_disk_is_named_and_nothing_is_left_behind() -> None:
    folders = []

    def run_out_of_space() -> None:
        with import_scratch() as folder:
            folders.append(folder)
            (folder / "pool.parquet").write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageFull, match="no space left on the device"):
        run_out_of_space()
    assert not folders[0].exists()
