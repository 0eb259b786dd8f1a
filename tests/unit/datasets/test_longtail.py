"""A long tail cut out of a data set: equal test sets, a geometric ladder, nothing on two sides."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.datasets.beside import SidePaths
from baldistill.datasets.examples import Example
from baldistill.datasets.importing import import_dataset
from baldistill.datasets.longtail import Ladder, cut_long_tail, ladder_sizes
from baldistill.datasets.side_files import read_aliases, read_rationales
from baldistill.datasets.storage import iter_examples
from baldistill.datasets.thinning import store_long_tail
from baldistill.errors import InvalidInput

SMALL = Ladder(test_per_domain=2, head=8, tail=2, min_items=5, seed=1)


def items(**sizes: int) -> list[Example]:
    return [
        Example(example_id=f"{domain}-{n}", domain=domain, input=f"{domain} {n}", answer=domain)
        for domain, size in sizes.items()
        for n in range(size)
    ]


def counts(examples: object) -> Counter[str]:
    return Counter(one.domain for one in examples)  # type: ignore[attr-defined]


def test_sizes_fall_by_the_same_share_each_time() -> None:
    assert ladder_sizes(3, head=100, tail=1) == [100, 10, 1]
    assert ladder_sizes(4, head=8, tail=1) == [8, 4, 2, 1]
    sizes = ladder_sizes(23, head=200, tail=3)
    assert (sizes[0], sizes[-1], sum(sizes)) == (200, 3, 1136)


def test_domains_are_ranked_by_size_and_what_is_left_is_the_oracle() -> None:
    cut = cut_long_tail(items(b=20, a=30, c=10, tiny=4), SMALL)
    assert counts(cut.test) == {"a": 2, "b": 2, "c": 2}
    assert counts(cut.pool) == {"a": 8, "b": 4, "c": 2}
    assert counts(cut.oracle) == {"a": 20, "b": 14, "c": 6}
    assert cut.removed == {"duplicate": 0, "small_domain": 4}


def test_a_domain_with_less_than_its_rung_keeps_what_it_has() -> None:
    cut = cut_long_tail(items(a=7, b=6), SMALL)
    assert (counts(cut.pool), counts(cut.oracle)) == ({"a": 5, "b": 2}, {"b": 2})


def test_an_input_stands_on_one_side_only_whatever_its_spacing_and_label() -> None:
    doubled = [*items(a=10, b=10), Example(example_id="again", domain="b", input=" a   3", answer="b")]
    cut = cut_long_tail(doubled, SMALL)
    assert cut.removed["duplicate"] == 1
    assert "again" not in {one.example_id for part in (cut.pool, cut.test, cut.oracle) for one in part}


def test_small_domains_are_judged_by_what_was_published() -> None:
    few = items(a=10, b=4)
    with pytest.raises(InvalidInput, match="1 of 2 domains have 5 items"):
        cut_long_tail(few, SMALL)
    assert counts(cut_long_tail(few, SMALL, given={"a": 10, "b": 5}).pool) == {"a": 8, "b": 2}


def test_one_domain_only_is_no_tail() -> None:
    with pytest.raises(InvalidInput, match="a tail needs two or more"):
        cut_long_tail(items(a=50), SMALL)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"head": 2, "tail": 3}, "head"),
        ({"tail": 0}, "tail"),
        ({"min_items": 20}, "min-items"),
        ({"test_per_domain": 0}, "test-per-domain"),
    ],
)
def test_a_ladder_that_cannot_be_is_refused(wrong: dict[str, int], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Ladder(**wrong)
    assert caught.value.field == field


@given(sizes=st.lists(st.integers(1, 40), min_size=2, max_size=8), seed=st.integers(0, 5))
def test_the_three_parts_are_disjoint_and_the_same_again(sizes: list[int], seed: int) -> None:
    ladder = Ladder(test_per_domain=2, head=9, tail=1, min_items=3, seed=seed)
    examples = items(**{f"d{n}": size for n, size in enumerate(sizes)})
    if sum(size >= 3 for size in sizes) < 2:
        return
    cut = cut_long_tail(examples, ladder)
    ids = [one.example_id for part in (cut.pool, cut.test, cut.oracle) for one in part]
    assert len(ids) == len(set(ids)) == len(examples) - cut.removed["small_domain"]
    assert set(counts(cut.test).values()) == {2}
    assert cut_long_tail(examples, ladder) == cut


def test_another_seed_puts_other_items_in_the_test_set() -> None:
    examples = items(a=40, b=40)
    one, two = (cut_long_tail(examples, Ladder(test_per_domain=9, min_items=30, seed=seed)) for seed in (1, 2))
    assert {item.example_id for item in one.test} != {item.example_id for item in two.test}


def test_a_stored_tail_keeps_oracle_rationales_and_aliases(
    store: LocalArtifactStore, jsonl: Callable[..., Path], row: Callable[..., dict[str, object]], tmp_path: Path
) -> None:
    rows = [row(n, domain) for domain in ("a", "b") for n in range(12)]
    train, test = jsonl(rows[:-2]), jsonl(rows[-2:], "test.jsonl")
    extra = [row(0, "a"), row(99, "a"), row(98, "a", input="a question 99")]
    oracle = jsonl(extra, "oracle.jsonl")
    rationales = tmp_path / "r.jsonl"
    rationales.write_text(
        "".join(json.dumps({"id": one["id"], "rationale": f"because {one['id']}"}) + "\n" for one in rows)
    )
    aliases = jsonl([{"id": "a-1", "answers": ["a", "A"]}, {"id": "unknown", "answers": ["x"]}], "aliases.jsonl")
    beside = SidePaths(rationales=(rationales,), aliases=(aliases,), oracle=oracle)
    source = import_dataset(store, tenant="acme", name="d", train=train, test=test, beside=beside)
    # a-0 stands in the pool already; the third has the second's input.
    assert source.dataset.oracle is not None
    assert (source.dataset.oracle.rows, source.removed["oracle_in_use"]) == (1, 2)

    result = store_long_tail(store, source.dataset, SMALL, name="d_lt").dataset
    assert result.oracle is not None
    assert result.rationales is not None
    assert result.aliases is not None
    assert {name: (one.pool, one.test) for name, one in result.domains.items()} == {"a": (8, 2), "b": (2, 2)}
    assert counts(iter_examples(store, result.oracle)) == {"a": 3, "b": 8}
    assert len(read_rationales(store, result.rationales)) == 24
    assert read_aliases(store, result.aliases) == {"a-1": ["a", "A"]}
    assert store_long_tail(store, source.dataset, SMALL, name="d_lt").created is False


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"id": "a-1"}', ":1: field 'rationale': is missing, empty or no text"),
        ('{"id": "nobody", "rationale": "x"}', ": field 'id': none of its ids is in the data set"),
    ],
)
def test_a_wrong_rationale_file_is_named(
    store: LocalArtifactStore, jsonl: Callable[..., Path], row: Callable[..., dict[str, object]], line: str, told: str
) -> None:
    path = jsonl([line], "rationales.jsonl")
    with pytest.raises(InvalidInput) as caught:
        import_dataset(store, tenant="acme", name="d", train=jsonl([row(1)]), beside=SidePaths(rationales=(path,)))
    assert str(caught.value) == f"{path}{told}"
