"""An upgrade with a run in flight: the schema is newer than the processes, which are rolled one by one (docs/kubernetes.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from baldistill.database.engine import reading, writing
from baldistill.events.facts import RunState
from tests.stack.accounting import audit_calls
from tests.stack.artifacts import data_files, differing
from tests.stack.stack_home import StackHome
from tests.stack.waiting import wait_until
from tests.stack.workload import PLANNED_CALLS, Workload

pytestmark = pytest.mark.timeout(900)

# Consumers before the producers of what they consume.
_ORDER = (
    "trainer",
    "teacher-gateway",
    "teacher-gateway-2",
    "selector-worker",
    "selector-worker-2",
    "selector",
    "policy",
)


@contextmanager
def newer_schema(engine: Engine) -> Iterator[None]:
    """What a next version's migration does first: it adds, and takes nothing away."""
    with reading(engine) as connection:
        before = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    with writing(engine) as connection:
        connection.execute(text("ALTER TABLE jobs ADD COLUMN of_a_newer_version TEXT NOT NULL DEFAULT ''"))
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_newer'"))
    yield
    with writing(engine) as connection:
        connection.execute(text("ALTER TABLE jobs DROP COLUMN of_a_newer_version"))
        connection.execute(text("UPDATE alembic_version SET version_num = :before"), {"before": before})


def test_processes_that_are_rolled_over_a_newer_schema_finish_the_run_with_the_same_bytes(
    stack: StackHome, workload: Workload, tmp_path: Path
) -> None:
    workload.make_references(variants=1)
    seen_before = len(workload.seen())
    run_id = stack.submit(workload.spec(0, under=tmp_path, name="in-flight"))
    wait_until(lambda: stack.stage(run_id) >= 1)
    with newer_schema(stack.engine):
        for name in _ORDER:
            stack.stop_service(name)
            stack.start_service(name)
        stack.wait_for(run_id, RunState.COMPLETED)
    assert differing(data_files(stack.store, tenant="default", run_id=run_id), workload.reference(0)) == []
    assert len(workload.seen()) - seen_before == PLANNED_CALLS
    audit = audit_calls(stack.engine, seen=workload.seen())
    assert audit.unexplained == audit.paid_twice == audit.open_holds == audit.overspent == 0
