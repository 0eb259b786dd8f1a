"""A run whose oracle has nothing to give is refused before it begins."""

from __future__ import annotations

from typing import Any

import pytest

from baldistill.artifacts.ports import ArtifactRef
from baldistill.datasets.examples import Dataset
from baldistill.errors import InvalidInput
from baldistill.specs.runspec import RunSpec
from services.policy.oracle_data import check_oracle_data

FILE = ArtifactRef(key="k", sha256="0" * 64, size_bytes=1, rows=1)


def check(*, oracle: bool, rationales: bool, kind: str = "oracle", **changes: Any) -> str | None:
    spec = RunSpec.model_validate(
        {
            "name": "run",
            "dataset": {"name": "tickets"},
            "budget": {"examples": 9},
            "teacher": {"kind": kind},
            **changes,
        }
    )
    dataset = Dataset(
        tenant="acme",
        name="tickets",
        version="v1",
        sha256="0" * 64,
        pool=FILE,
        test=FILE,
        domains={},
        labels=("a",),
        removed={},
        oracle=FILE if oracle else None,
        rationales=FILE if rationales else None,
    )
    try:
        check_oracle_data(spec, dataset)
    except InvalidInput as error:
        return error.field
    return None


@pytest.mark.parametrize(
    ("method", "target", "oracle", "rationales", "field"),
    [
        ("baldistill_a", "rationale", True, True, None),
        ("baldistill_a", "rationale", True, False, "target"),
        ("baldistill_a", "label", True, False, None),
        ("baldistill_a", "label", False, False, "teacher.kind"),
        ("random_ft", None, False, False, None),
        ("active_ft_cot", "label", False, False, None),
        ("active_ft_cot", None, False, False, "target"),
        ("zero_shot_cot", None, False, False, None),
    ],
)
def test_the_oracle_needs_what_the_method_asks_for(
    method: str, target: str | None, oracle: bool, rationales: bool, field: str | None
) -> None:
    changes = {"method": method} | ({"target": target} if target else {})
    assert check(oracle=oracle, rationales=rationales, **changes) == field


def test_other_teachers_need_nothing_of_the_data_set() -> None:
    assert check(oracle=False, rationales=False, kind="protocol") is None
