"""Which price counts for a teacher, where it comes from, and what is said where there is none."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from baldistill.errors import InvalidInput
from baldistill.pricing.book import PriceBook
from baldistill.pricing.price_file import PriceFile, read_price_file
from baldistill.pricing.published import published_price, published_version
from baldistill.specs.runspec import PriceSpec, TeacherSpec
from baldistill.tasks.bounds import UnpricedTeacher

OPENAI = "https://api.openai.com/v1"
OWN = {"model": "gpt-4o-mini", "input_usd_per_million_tokens": 1, "output_usd_per_million_tokens": 2}
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def teacher(**changes: Any) -> TeacherSpec:
    return TeacherSpec.model_validate({"model": "gpt-4o-mini", "base_url": OPENAI, **changes})


def book(*prices: dict[str, Any], path: Path | None = Path("prices.yaml")) -> PriceBook:
    return PriceBook(PriceFile.model_validate({"models": prices}), path=path)


def of(price: PriceSpec | None) -> tuple[Decimal | int, Decimal | int] | None:
    return None if price is None else (price.input_usd_per_million_tokens, price.output_usd_per_million_tokens)


def test_the_spec_overrides_the_file_and_the_file_what_is_published() -> None:
    in_spec = {"input_usd_per_million_tokens": 5, "output_usd_per_million_tokens": 6}
    booked = [
        book(OWN).price_of(teacher(price=in_spec)),
        book(OWN).price_of(teacher()),
        book().price_of(teacher()),
    ]
    assert [of(one.price) for one in booked] == [(5, 6), (1, 2), (Decimal("0.15"), Decimal("0.6"))]
    assert [one.version.rpartition("-")[0] for one in booked] == ["spec", "file", published_version()]
    assert booked[1].source == "prices.yaml"


def test_a_version_names_the_price_not_the_file() -> None:
    other = {**OWN, "model": "another"}
    assert book(OWN).price_of(teacher()).version == book(other, OWN).price_of(teacher()).version
    dearer = {**OWN, "output_usd_per_million_tokens": 3}
    assert book(OWN).price_of(teacher()).version != book(dearer).price_of(teacher()).version


def test_a_price_for_one_provider_counts_before_one_for_all() -> None:
    here = {**OWN, "base_url": f"{OPENAI}/", "input_usd_per_million_tokens": 7}
    assert of(book(OWN, here).price_of(teacher()).price) == (7, 2)
    assert of(book(OWN, here).price_of(teacher(base_url="http://own/v1")).price) == (1, 2)


def test_an_unpriced_model_is_refused_with_the_file_to_write_and_how_it_looks() -> None:
    with pytest.raises(UnpricedTeacher) as refused:
        book(path=Path("home/prices.yaml")).price_of(teacher(model="my-model", base_url="http://own/v1"))
    words = str(refused.value)
    assert "'my-model' has no price at http://own/v1" in words
    assert "write its price into home/prices.yaml" in words
    assert "  - model: my-model\n    input_usd_per_million_tokens" in words
    assert refused.value.field == "teacher.price"


def test_a_model_is_never_priced_by_its_name_alone_at_a_provider_that_nobody_knows() -> None:
    with pytest.raises(UnpricedTeacher):
        book().price_of(teacher(base_url="http://127.0.0.1:8000/v1"))


def test_teachers_of_this_process_cost_nothing_unless_priced() -> None:
    assert book().price_of(teacher(kind="protocol")).version == "free"
    assert book().priced(teacher()).price == book().price_of(teacher()).price


def test_where_a_price_depends_on_the_prompts_length_the_dearest_is_taken() -> None:
    google = "https://generativelanguage.googleapis.com/v1beta/openai"
    # 1.25 and 10 up to 200,000 tokens of prompt, 2.50 and 15 beyond.
    assert of(published_price(model="gemini-2.5-pro", base_url=google, now=NOON)) == (Decimal("2.5"), Decimal(15))


def test_a_model_that_is_priced_by_the_call_as_well_is_not_known() -> None:
    assert published_price(model="sonar", base_url="https://api.perplexity.ai", now=NOON) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [{model: m}]", "input_usd_per_million_tokens"),
        ("models: [{model: m, input_usd_per_million_tokens: -1, output_usd_per_million_tokens: 1}]", "greater than"),
        ("modles: []", "modles"),
        ("models: [", "cannot be read"),
    ],
)
def test_a_wrong_file_is_named_with_the_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=message) as wrong:
        read_price_file(path)
    assert str(path) in str(wrong.value)


def test_a_file_that_is_not_there_has_no_prices(tmp_path: Path) -> None:
    assert read_price_file(tmp_path / "none.yaml").models == ()


def test_a_tenants_spec_cannot_state_less_than_the_operators_file() -> None:
    cheap = {"input_usd_per_million_tokens": 1, "output_usd_per_million_tokens": "1.99"}
    binding = PriceBook(PriceFile.model_validate({"models": [OWN]}), path=Path("prices.yaml"), file_binds=True)
    with pytest.raises(InvalidInput, match=r"teacher.price.output_usd_per_million_tokens.*states less than the 2"):
        binding.price_of(teacher(price=cheap))
    dear = cheap | {"output_usd_per_million_tokens": 2}
    assert of(binding.price_of(teacher(price=dear)).price) == (1, 2)
    assert of(binding.price_of(teacher(model="another", price=cheap)).price) == (1, Decimal("1.99"))
    assert of(book(OWN).price_of(teacher(price=cheap)).price) == (1, Decimal("1.99"))
