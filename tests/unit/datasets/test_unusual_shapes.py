"""Data sets of unusual shape import as they are, and say so: one domain, ten thousand, labels on one side only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.datasets.importing import import_dataset
from baldistill.datasets.longtail import Ladder
from baldistill.datasets.thinning import store_long_tail
from baldistill.errors import InvalidInput

Row = Callable[..., dict[str, object]]
Jsonl = Callable[..., Path]


def test_ten_thousand_domains_import_and_are_too_thin_for_a_ladder(
    store: LocalArtifactStore, jsonl: Jsonl, row: Row
) -> None:
    rows = [row(number, f"domain-{domain}") for domain in range(10_000) for number in range(2)]
    dataset = import_dataset(store, tenant="acme", name="wide", train=jsonl(rows)).dataset
    assert (len(dataset.domains), dataset.pool.rows, dataset.test.rows) == (10_000, 20_000, 0)
    # More than 1,000 distinct answers are free text.
    assert dataset.labels == ()
    with pytest.raises(InvalidInput, match="0 of 10000 domains have 60 items"):
        store_long_tail(store, dataset, Ladder(), name="wide_lt")


def test_ten_thousand_domains_can_be_a_ladder(store: LocalArtifactStore, jsonl: Jsonl, row: Row) -> None:
    rows = [row(number, f"domain-{domain}") for domain in range(10_000) for number in range(3)]
    dataset = import_dataset(store, tenant="acme", name="wide", train=jsonl(rows)).dataset
    cut = store_long_tail(
        store, dataset, Ladder(test_per_domain=1, head=2, tail=1, min_items=3), name="wide_lt"
    ).dataset
    assert (len(cut.domains), cut.test.rows) == (10_000, 10_000)
    assert cut.oracle is not None
    # Half of the ladder from 2 to 1 rounds to 2.
    assert cut.pool.rows + cut.oracle.rows == 20_000
    assert {counts.pool for counts in cut.domains.values()} == {1, 2}


def test_one_domain_only_imports_and_has_no_tail(store: LocalArtifactStore, jsonl: Jsonl, row: Row) -> None:
    dataset = import_dataset(store, tenant="acme", name="one", train=jsonl([row(n) for n in range(100)])).dataset
    assert dataset.labels == ("billing",)
    with pytest.raises(InvalidInput, match="1 of 1 domains have 60 items; a tail needs two or more"):
        store_long_tail(store, dataset, Ladder(), name="one_lt")


def test_labels_that_one_side_lacks_are_labels_all_the_same(store: LocalArtifactStore, jsonl: Jsonl, row: Row) -> None:
    train = jsonl([row(n, domain) for domain in ("billing", "login") for n in range(3)])
    test = jsonl([row(n, domain) for domain in ("login", "gift") for n in range(7, 9)], "test.jsonl")
    dataset = import_dataset(store, tenant="acme", name="changing", train=train, test=test).dataset
    assert dataset.labels == ("billing", "gift", "login")
    sizes = {name: (counts.pool, counts.test) for name, counts in dataset.domains.items()}
    assert sizes == {"billing": (3, 0), "gift": (0, 2), "login": (3, 2)}
