"""Every test carries the marker of its folder, and finds the real data where it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Neither the time of an example nor that of drawing it is a claim of any test.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

TIERS = {"unit", "contracts", "integration", "e2e"}
TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tier, folder = (*item.path.relative_to(TESTS).parts, "")[:2]
        if tier in TIERS:
            item.add_marker(tier if tier != "contracts" else "contract")
        # One process does all of a file, so that what its tests share is made once; the stack's files share a stack.
        shares_the_stack = (tier, folder) == ("e2e", "stack") and item.path.name != "test_chaos.py"
        item.add_marker(pytest.mark.xdist_group("stack" if shares_the_stack else str(item.path.relative_to(TESTS))))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets (BALDISTILL_DATA), or a visible skip where it is absent."""
    folder = Path(os.environ.get("BALDISTILL_DATA", TESTS.parent.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set BALDISTILL_DATA")
    return folder
