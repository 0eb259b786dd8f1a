"""`runs delete` and `gc` over a folder and over a cluster's stores (MinIO, PostgreSQL): whole, and whole again after a kill."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from baldistill.artifacts.layout import RunLayout, promoted_student
from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactRef, Manifest
from baldistill.artifacts.s3 import S3ArtifactStore
from baldistill.database.migrate import migrate
from baldistill.events.facts import RunState, RunSubmitted
from baldistill.jobs.sql_registry import SqlJobRegistry
from baldistill.runtime.file_locks import FileLock
from baldistill.runtime.launching import Job
from baldistill.tasks.bounds import CallBound
from baldistill.testing.databases import new_location
from baldistill.testing.minio import shared_minio, store_settings
from services.cli import retention
from services.cli.__main__ import run
from services.cli.stores import Stores, open_stores
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.ports import RunRecord
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.composition import count_answers
from services.teacher_gateway.ledger.budgets import BudgetPath, Ceilings
from services.teacher_gateway.ledger.holds import Booking, HoldState, Reply, Reserved, ReserveRequest

FILES = 12
ANSWERS = 3


class Killed(BaseException):
    """Ends a command where a kill would."""


@dataclass
class Place:
    """Stores and the command line over them."""

    stores: Stores
    options: list[str]
    capsys: pytest.CaptureFixture[str]

    def command(self, *arguments: str) -> tuple[int, str]:
        self.capsys.readouterr()
        code = run([*arguments, *self.options])
        out, err = self.capsys.readouterr()
        return code, out or err

    def gc(self, *arguments: str) -> Any:
        code, out = self.command("gc", *arguments, "--yes", "--json")
        assert code == 0, out
        return json.loads(out)

    def add(self, name: str, *, state: RunState = RunState.COMPLETED, closed: timedelta = timedelta(days=100)) -> str:
        """Make a run as the services leave it: record, timeline, artifacts and paid answers."""
        run_id, store = f"{name}-12345678", self.stores.store
        layout = RunLayout(tenant="acme", run_id=run_id)
        for number in range(FILES // 2):
            folder = layout.stage(number).folder
            ref = store.put_bytes(folder=folder, name="plan.json", data=b"%d" % number)
            store.create_manifest(Manifest(key=f"{folder}/plan.json", files={"plan": ref}))
        spec = ArtifactRef(key=layout.spec, sha256="0" * 64, size_bytes=1)
        registry = SqlRunRegistry(self.stores.engine)
        registry.create(
            RunRecord(
                tenant="acme", run_id=run_id, name=name, spec=spec, state=state, epoch=1, stage=3,
                baseline_evaluated=True, budget_exhausted=False, brought_here_by="", reason="",
            )
        )  # fmt: skip
        submitted = RunSubmitted(tenant="acme", run_id=run_id, epoch=1, stage=0, spec=spec)
        registry.record_fact(submitted, at=datetime.now(UTC) - closed)
        self._pay(run_id)
        return run_id

    def _pay(self, run_id: str) -> None:
        ledger = SqlLedger(self.stores.engine)
        path = BudgetPath(tenant="acme", run_id=run_id)
        ledger.ensure_budget(path, ceilings=Ceilings(calls=ANSWERS), actor="test")
        bound = CallBound(calls=1, prompt_tokens=60, completion_tokens=40, nano_usd=500)
        for number in range(ANSWERS):
            request = ReserveRequest(
                request_key=f"{run_id}/{number}", prompt_sha256="p", path=path, bound=bound, price_version="v1",
                send_within_ms=10_000, call_timeout_ms=60_000,
            )  # fmt: skip
            (held,) = ledger.reserve([request])
            assert isinstance(held, Reserved)
            assert ledger.mark_sent(held)
            reply = Reply(
                attempt=1, model="m", text="yes", finish_reason="stop", prompt_tokens=20, completion_tokens=10
            )
            ledger.book(held, Booking(state=HoldState.SETTLED, outcome="answered", reply=reply))
        ledger.close()

    def runs(self) -> list[str]:
        return sorted(record.name for record in SqlRunRegistry(self.stores.engine).list_runs())

    def files(self) -> list[str]:
        return [key for prefix in ("tenants", "deletions") for key in self.stores.store.list_manifests(prefix=prefix)]

    def answers(self, run_id: str) -> int:
        return count_answers(self.stores.engine, tenant="acme", run_id=run_id)

    def spent(self, run_id: str) -> int:
        ledger = SqlLedger(self.stores.engine)
        tree = ledger.budget_tree(BudgetPath(tenant="acme", run_id=run_id))
        ledger.close()
        return tree[0].spent.calls


@pytest.fixture(params=["home", "cluster"])
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Place]:
    cluster = request.param == "cluster"
    options = ["--cluster"] if cluster else ["--home", str(tmp_path / "home")]
    with ExitStack() as resources:
        if cluster:
            settings = store_settings(shared_minio(), cache=tmp_path / "cache")
            for name in ("endpoint", "access_key", "bucket", "cache"):
                monkeypatch.setenv(f"BALDISTILL_STORE__{name.upper()}", str(getattr(settings, name)))
            monkeypatch.setenv("BALDISTILL_STORE__SECRET_KEY", settings.secret_key.get_secret_value())
            url = resources.enter_context(new_location("postgres", tmp_path))
            monkeypatch.setenv("BALDISTILL_DATABASE__URL", url)
            monkeypatch.setattr("baldistill.artifacts.recent_objects.REMEMBERED_S", 0.1)
        stores = resources.enter_context(open_stores(tmp_path / "home", cluster=cluster))
        migrate(stores.engine)
        yield Place(stores=stores, options=options, capsys=capsys)


def test_a_deleted_run_leaves_nothing_but_what_it_spent(place: Place) -> None:
    run_id, kept = place.add("old"), place.add("kept")
    code, out = place.command("runs", "delete", "old", "--tenant", "acme", "--yes", "--json")
    assert code == 0
    assert json.loads(out) == {"run_id": run_id, "answers_deleted": ANSWERS, "files_deleted": FILES}
    assert place.runs() == ["kept"]
    assert {key.split("/")[3] for key in place.files()} == {kept}
    assert (place.answers(run_id), place.spent(run_id)) == (0, ANSWERS)
    assert place.answers(kept) == ANSWERS


def test_answers_are_kept_where_that_is_asked_for(place: Place) -> None:
    run_id = place.add("old")
    assert place.command("runs", "delete", "old", "--tenant", "acme", "--yes", "--keep-answers")[0] == 0
    assert (place.runs(), place.files(), place.answers(run_id)) == ([], [], ANSWERS)


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.PAUSED, RunState.BLOCKED])
def test_a_run_that_has_not_ended_is_refused_with_what_to_do(place: Place, state: RunState) -> None:
    run_id = place.add("going", state=state)
    code, said = place.command("runs", "delete", "going", "--tenant", "acme", "--yes")
    assert code == 75
    assert f"run going is {state.value}" in said
    assert "cancel" in said
    assert place.gc("--older-than", "0d")["runs"] == []
    assert (place.runs(), place.answers(run_id), len(place.files())) == (["going"], ANSWERS, FILES // 2)


def test_gc_deletes_closed_runs_that_are_old_enough(place: Place) -> None:
    for name, days in (("ancient", 100), ("recent", 80)):
        place.add(name, closed=timedelta(days=days))
    place.add("failed", state=RunState.FAILED)
    place.add("paused", state=RunState.PAUSED)
    dry = place.gc("--older-than", "90d", "--dry-run")
    assert sorted(one["name"] for one in dry["runs"]) == ["ancient", "failed"]
    assert place.runs() == ["ancient", "failed", "paused", "recent"]
    done = place.gc("--older-than", "90d")
    assert sorted((one["name"], one["answers_deleted"], one["files_deleted"]) for one in done["runs"]) == [
        ("ancient", ANSWERS, FILES),
        ("failed", ANSWERS, FILES),
    ]
    assert place.runs() == ["paused", "recent"]
    assert place.gc("--older-than", "90d", "--tenant", "nobody")["runs"] == []


def test_a_run_whose_student_is_promoted_stays(place: Place) -> None:
    run_id = place.add("old")
    name = Manifest(
        key=promoted_student(tenant="acme", name="support", version="3"),
        files={},
        attributes={"run_id": run_id, "stage": 2, "name": "support", "version": "3"},
    )
    place.stores.store.create_manifest(name)
    assert place.gc("--older-than", "90d")["runs"] == []
    code, said = place.command("runs", "delete", "old", "--tenant", "acme", "--yes")
    assert (code, "support 3" in said, place.runs()) == (75, True, ["old"])
    assert place.command("runs", "delete", "old", "--tenant", "acme", "--yes", "--promoted")[0] == 0
    assert (place.runs(), place.files()) == ([], [name.key])


def test_gc_asks_before_it_deletes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add("old")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert place.command("gc", "--older-than", "90d")[0] == 1
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert place.runs() == ["old"]
    assert place.command("gc", "--older-than", "90d")[0] == 0
    assert place.runs() == []


@pytest.mark.parametrize("age", ["90", "d", "-1d", "1y", "soon"])
def test_an_age_that_is_none_is_refused(tmp_path: Path, age: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gc", f"--older-than={age}", "--home", str(tmp_path / "home")]) == 65
    assert "90d" in capsys.readouterr().err


def killed_at(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the next command die at a step: at deleting answers, at forgetting the record, or half through a folder."""

    def kill(*_args: object, **_named: object) -> None:
        raise Killed

    def dying_halfway(real: Callable[..., int]) -> Callable[..., int]:
        def delete_folder(store: Any, *, prefix: str) -> int:
            if not prefix.startswith(step):
                return real(store, prefix=prefix)
            # The first stages are gone, the rest is not.
            for number in range(2):
                real(store, prefix=f"{prefix}/stage-{number:02d}")
            raise Killed

        return delete_folder

    if step == "answers":
        monkeypatch.setattr(retention, "delete_answers", kill)
    elif step == "record":
        monkeypatch.setattr(SqlRunRegistry, "forget", kill)
    else:
        for store in (LocalArtifactStore, S3ArtifactStore):
            monkeypatch.setattr(store, "delete_folder", dying_halfway(store.delete_folder))


@pytest.mark.parametrize("keep", [(), ("--keep-answers",)])
@pytest.mark.parametrize("step", ["tenants/", "record", "deletions/"])
def test_a_deletion_that_is_cut_is_finished_by_the_next_gc(
    place: Place, monkeypatch: pytest.MonkeyPatch, step: str, keep: tuple[str, ...]
) -> None:
    run_id = place.add("old", closed=timedelta(0))
    with monkeypatch.context() as patched:
        killed_at(step, patched)
        with pytest.raises(Killed):
            place.command("runs", "delete", "old", "--tenant", "acme", "--yes", *keep)
    place.gc("--older-than", "90d")
    assert (place.runs(), place.files(), place.answers(run_id)) == ([], [], ANSWERS if keep else 0)


def test_a_deletion_that_is_cut_before_its_first_answer_is_finished(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = place.add("old", closed=timedelta(0))
    with monkeypatch.context() as patched:
        killed_at("answers", patched)
        with pytest.raises(Killed):
            place.command("runs", "delete", "old", "--tenant", "acme", "--yes")
    assert [one["name"] for one in place.gc("--older-than", "90d")["runs"]] == ["old"]
    assert (place.runs(), place.files(), place.answers(run_id)) == ([], [], 0)


def test_a_run_that_took_the_name_anew_is_not_taken_for_the_old_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark of a deletion outlived its run, and the same spec was run again since."""
    run_id = place.add("old")
    with monkeypatch.context() as patched:
        killed_at("deletions/", patched)
        with pytest.raises(Killed):
            place.command("runs", "delete", "old", "--tenant", "acme", "--yes", "--keep-answers")
    layout = RunLayout(tenant="acme", run_id=run_id)
    place.stores.store.create_manifest(Manifest(key=layout.stage(1).plan, files={}))
    spec = ArtifactRef(key=layout.spec, sha256="0" * 64, size_bytes=1)
    registry = SqlRunRegistry(place.stores.engine)
    registry.create(
        RunRecord(
            tenant="acme", run_id=run_id, name="old", spec=spec, state=RunState.COMPLETED, epoch=1, stage=3,
            baseline_evaluated=True, budget_exhausted=False, brought_here_by="", reason="",
        )
    )  # fmt: skip
    registry.record_fact(RunSubmitted(tenant="acme", run_id=run_id, epoch=1, stage=0, spec=spec), at=datetime.now(UTC))
    assert place.gc("--older-than", "90d")["runs"] == []
    assert (place.runs(), place.files()) == (["old"], [layout.stage(1).plan])


def test_artifacts_whose_record_was_lost_are_deleted_where_no_submission_can_be_under_way(place: Place) -> None:
    run_id = place.add("old")
    SqlRunRegistry(place.stores.engine).forget(tenant="acme", run_id=run_id)
    done = place.gc("--older-than", "90d")
    lost = {"tenant": "acme", "run_id": run_id}
    if place.stores.locks is None:
        assert (done["runs"], done["without_record"]) == ([], [lost])
        done = place.gc("--older-than", "90d", "--orphans")
    assert [(one["run_id"], one["name"]) for one in done["runs"]] == [(run_id, None)]
    assert (place.files(), place.answers(run_id)) == ([], 0)


def test_a_deleted_run_leaves_no_job(place: Place) -> None:
    run_id = place.add("old")
    jobs = SqlJobRegistry(place.stores.engine)
    spec = ArtifactRef(key=RunLayout(tenant="acme", run_id=run_id).spec, sha256="0" * 64, size_bytes=1)
    doomed, kept = (Job(tenant="acme", run_id=one, epoch=1, stage=1, spec=spec) for one in (run_id, "another"))
    jobs.put(doomed)
    jobs.put(kept)
    assert place.command("runs", "delete", "old", "--tenant", "acme", "--yes")[0] == 0
    assert jobs.find(tenant="acme", name=doomed.name) is None
    assert jobs.find(tenant="acme", name=kept.name) is not None


def test_others_forget_a_deleted_run_before_its_name_is_free(place: Place) -> None:
    run_id = place.add("old")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        assert place.runs() == ["old"]

    record = SqlRunRegistry(place.stores.engine).find(tenant="acme", run_id=run_id)
    doomed = retention.DoomedRun(tenant="acme", run_id=run_id, record=record)
    retention.delete_runs(place.stores, [doomed], actor="test", sleep=sleep)
    assert (waits, place.runs()) == ([place.stores.remembered_s], [])


def test_a_run_that_is_being_worked_on_is_not_deleted(place: Place) -> None:
    run_id = place.add("old")
    if place.stores.locks is None:
        # In a cluster the state alone says that nobody works on it; a run that went on since the list was made stays.
        registry = SqlRunRegistry(place.stores.engine)
        record = registry.find(tenant="acme", run_id=run_id)
        assert record is not None
        doomed = retention.DoomedRun(tenant="acme", run_id=run_id, record=None)
        assert retention.delete_runs(place.stores, [doomed], actor="test") == []
    else:
        with FileLock(place.stores.locks / f"run-{run_id}.lock") as lock:
            assert lock.try_acquire()
            assert place.command("runs", "delete", "old", "--tenant", "acme", "--yes")[0] == 75
    assert (place.runs(), place.answers(run_id), len(place.files())) == (["old"], ANSWERS, FILES // 2)


def test_a_cluster_that_is_not_named_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BALDISTILL_DATABASE__URL", raising=False)
    assert run(["gc", "--older-than", "90d", "--cluster"]) == 65
    assert "BALDISTILL_DATABASE" in capsys.readouterr().err
