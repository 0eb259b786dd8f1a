"""One local stack for all tests of this folder: two gateways, two selector-workers, real servers."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from baldistill.testing.tiny_student import build_tiny_student
from tests.stack.stack_home import StackHome
from tests.stack.workload import Workload


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Outages leave sockets to the garbage collector: Kafka's client library drops them where a connection is refused.
    for item in items:
        if "stack" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(autouse=True)
def _collect_dropped_sockets() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="session")
def stack_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_student(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackHome]:
    """The stack. What is missing on this machine is installed or named, never skipped."""
    with StackHome(
        tmp_path_factory.mktemp("stack"),
        replicas={"teacher-gateway": 2, "selector-worker": 3, "trainer": 2},
        # The others join and leave in a test.
        services=[
            "policy",
            "teacher-gateway",
            "teacher-gateway-2",
            "selector",
            "selector-worker",
            "selector-worker-2",
            "trainer",
        ],
        # A training longer than this must not cost its group a member.
        environment={"BALDISTILL_KAFKA__MAX_POLL_INTERVAL_S": "10"},
    ) as home:
        yield home


@pytest.fixture(scope="session")
def workload(tmp_path_factory: pytest.TempPathFactory, stack_student: Path) -> Iterator[Workload]:
    """One counting teacher and one data set for all runs; uninterrupted runs to compare with are made once."""
    with Workload(tmp_path_factory.mktemp("workload"), student=stack_student) as opened:
        yield opened
