"""What is frozen at submit, and what is refused before anything is stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from baldistill.errors import InvalidInput
from baldistill.pricing.book import PriceBook
from baldistill.pricing.price_file import PriceFile
from baldistill.specs.frozen import FrozenRun
from baldistill.tasks.bounds import UnpricedTeacher
from services.policy.submission import run_id_of

if TYPE_CHECKING:
    from tests.unit.policy.conftest import Policy


def test_the_frozen_spec_names_the_data_and_the_calls(policy: Policy) -> None:
    frozen = policy.propose().frozen
    # naive over 2 domains would need 6; adaptive too, and every row costs a call
    assert frozen.spec.budget.calls == 6
    assert frozen.spec.dataset.version == frozen.dataset.version
    assert frozen.labels == ("big", "rare")
    assert frozen.show_labels_to_student
    assert frozen.price_version == "free"


def test_equal_specs_freeze_to_equal_bytes(policy: Policy) -> None:
    first, second = policy.propose().frozen.canonical_json(), policy.propose().frozen.canonical_json()
    assert first == second
    assert FrozenRun.model_validate_json(first).canonical_json() == first


def test_the_same_spec_again_finds_the_run(policy: Policy) -> None:
    assert policy.submit() == policy.submit()
    assert len(policy.registry.list_runs()) == 1


def test_another_spec_under_the_same_name_is_refused_by_its_first_difference(policy: Policy) -> None:
    policy.submit()
    with pytest.raises(InvalidInput, match=r"budget\.examples was 6, now 8") as caught:
        policy.submit(budget={"examples": 8, "calls": 6})
    assert caught.value.field == "name"


def test_tenants_do_not_share_runs(policy: Policy) -> None:
    frozen = policy.propose().frozen
    other = frozen.model_copy(update={"spec": frozen.spec.model_copy(update={"tenant": "other"})})
    assert run_id_of(frozen) != run_id_of(other)


def test_a_deleted_run_comes_back_under_its_id_and_another_spec_under_another(policy: Policy) -> None:
    first = policy.submit()
    policy.registry.forget(tenant=first.tenant, run_id=first.run_id)
    assert policy.submit().run_id == first.run_id
    policy.registry.forget(tenant=first.tenant, run_id=first.run_id)
    assert policy.submit(budget={"examples": 8}).run_id != first.run_id


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"dataset": {"name": "nothing"}}, "dataset.name", "not imported"),
        ({"dataset": {"name": "d", "domains": ["big", "gone"]}}, "dataset.domains", "domain 'gone' has no item"),
        ({"method": "random_ft", "budget": {"examples": 99}}, "budget.examples", "the pool has 27"),
        ({"method": "zero_shot_cot", "budget": {"examples": 9, "calls": 9}}, "budget.calls", "no calls"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_is_stored(
    policy: Policy, changes: dict[str, object], field: str, reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        policy.submit(**changes)
    assert caught.value.field == field
    assert policy.registry.list_runs() == []


PAID = {"kind": "openai", "model": "m", "base_url": "http://own/v1"}


def _book(usd: int) -> PriceBook:
    price = {"model": "m", "input_usd_per_million_tokens": usd, "output_usd_per_million_tokens": usd}
    return PriceBook(PriceFile.model_validate({"models": [price]}), path=Path("prices.yaml"))


def test_the_price_that_counts_is_frozen_with_its_version(policy: Policy) -> None:
    policy.prices = _book(3)
    frozen = policy.propose(teacher=PAID).frozen
    assert frozen.spec.teacher.price is not None
    assert frozen.spec.teacher.price.input_usd_per_million_tokens == 3
    assert frozen.price_version.startswith("file-")


def test_a_newer_price_list_makes_no_other_run_of_one_that_was_submitted(policy: Policy) -> None:
    policy.prices = _book(3)
    first = policy.propose(teacher=PAID).frozen
    policy.prices, policy.known = _book(4), first
    assert policy.propose(teacher=PAID).frozen == first
    other = policy.propose(teacher=PAID | {"model": "m", "timeout_s": 5.0}).frozen
    assert other.spec.teacher.price is not None
    assert other.spec.teacher.price.input_usd_per_million_tokens == 4


def test_an_unpriced_teacher_is_refused_before_anything_is_stored(policy: Policy) -> None:
    policy.prices = PriceBook.at(Path("prices.yaml"))
    with pytest.raises(UnpricedTeacher, match=r"write its price into prices\.yaml"):
        policy.propose(teacher=PAID)
