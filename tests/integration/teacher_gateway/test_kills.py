"""kill -9 in the middle of teacher work: what was answered is kept, what is uncertain is told, no ceiling is passed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.tables import read_table
from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import migrate
from baldistill.testing.teacher_runs import RUN_ID, TENANT, TeacherRun, tickets
from services.teacher_gateway.composition import build_teacher_gateway, run_budgets
from services.teacher_gateway.ledger.holds import HoldState

ROWS, CEILING, KILLS = 48, 120, 4
FREE = {"input_usd_per_million_tokens": 0, "output_usd_per_million_tokens": 0}

WORKER = """
import sys
from collections import deque
from pathlib import Path
from baldistill.artifacts.local import LocalArtifactStore
from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import migrate
from baldistill.events.facts import RationalesCollected
from baldistill.testing.teacher_runs import TeacherRun, tickets
from services.teacher_gateway.composition import build_teacher_gateway
import json

folder, teacher, rows, ceiling = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
store = LocalArtifactStore(folder / "artifacts")
engine = open_database(sqlite_url(folder / "baldistill.db"))
migrate(engine)
gateway = build_teacher_gateway(store=store, engine=engine, locks=folder / "locks", environment={"OPENAI_API_KEY": "k"})
pool = tickets("billing", rows)
run = TeacherRun.create(store, pool=pool, teacher=teacher, budget={"examples": rows, "calls": ceiling})
print("working", flush=True)
waiting = deque([run.examples_selected(selected=pool)])
while waiting:
    fact = waiting.popleft()
    for group in gateway.groups:
        if type(fact) in group.handlers:
            waiting.extend(group.handlers[type(fact)](fact))
    if isinstance(fact, RationalesCollected):
        print(json.dumps(fact.batch.rows), flush=True)
gateway.close()
"""


def test_killed_work_goes_on_and_every_call_is_accounted_for(tmp_path: Path) -> None:
    seen_file = tmp_path / "seen.log"
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "baldistill.testing.protocol_server", "--seen", str(seen_file)),
            *("--behaviour", json.dumps({"latency_s": 0.05})),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    url = server.stdout.readline().removeprefix("listening on ").strip()
    teacher = {"kind": "openai", "base_url": url, "price": FREE, "concurrency": 4}
    command = [sys.executable, "-c", WORKER, str(tmp_path), json.dumps(teacher), str(ROWS), str(CEILING)]
    try:
        for kill in range(KILLS):
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "working\n"
                time.sleep(0.1 + 0.05 * kill)  # somewhere among its calls; any moment must do
                worker.kill()
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    assert finished.stdout.split() == ["working", str(ROWS)]

    engine = open_database(sqlite_url(tmp_path / "baldistill.db"))
    migrate(engine)
    store = LocalArtifactStore(tmp_path / "artifacts")
    gateway = build_teacher_gateway(store=store, engine=engine, locks=tmp_path / "locks", environment={})
    attempts = gateway.attempts(tenant=TENANT, run_id=RUN_ID)
    spent = run_budgets(engine, tenant=TENANT, run_id=RUN_ID)[0]
    gateway.close()
    engine.dispose()

    stored = {one.request_id for one in attempts if one.state is HoldState.SETTLED}
    unknown = {one.request_id for one in attempts if one.state is HoldState.UNKNOWN}
    seen = Counter(seen_file.read_text().split())
    assert stored <= set(seen) <= stored | unknown
    assert set(seen.values()) == {1}
    # One stored answer a row: none was paid for again.
    assert len({request_id.split("/")[0] for request_id in stored}) == len(stored) == ROWS
    assert spent.held.calls == 0
    assert spent.spent.calls == len(stored) + len(unknown) <= CEILING
    # No process that was killed left its proof of life behind.
    assert list((tmp_path / "locks").glob("owner-*")) == []

    layout = TeacherRun.create(store, pool=tickets("billing", ROWS)).frozen.layout.stage(1)
    batch = store.find_manifest(layout.batch)
    assert batch is not None
    assert [row["row_id"] for row in read_table(store, batch.files["batch"])] == [f"billing-{n}" for n in range(ROWS)]
