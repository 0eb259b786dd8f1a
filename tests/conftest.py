"""Every test carries the marker of its folder, and finds the real data where it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]

# Neither the time of an example nor that of drawing it is a claim of any test.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

TIERS = {"unit", "contracts", "integration", "e2e"}
TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tier = item.path.relative_to(TESTS).parts[0]
        if tier in TIERS:
            item.add_marker(tier if tier != "contracts" else "contract")


class InGroups(LoadGroupScheduling):  # type: ignore[misc]
    """One process does all of a file, so that what its tests share is made once; the stack's files share a stack.

    The marker `xdist_group` of pytest-xdist 3.8 has no effect under pytest 9.2, whose node ids can't be written.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        shares_the_stack = file.startswith("tests/e2e/stack/") and not file.endswith("/test_chaos.py")
        return "stack" if shares_the_stack else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> InGroups | None:
    return InGroups(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets (BALDISTILL_DATA), or a visible skip where it is absent."""
    folder = Path(os.environ.get("BALDISTILL_DATA", TESTS.parent.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set BALDISTILL_DATA")
    return folder
