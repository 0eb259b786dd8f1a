"""The trainer's RPCs over the loopback: students, their registry, evaluations, and what strangers are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from baldistill.artifacts.layout import evaluation_manifest
from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactRef, Manifest
from baldistill.artifacts.schemas import EXAMPLES
from baldistill.artifacts.tables import read_table, store_table
from baldistill.errors import AccessDenied, AlreadyThere, DependencyUnavailable, InvalidInput, NotKnown
from baldistill.rpc.messages import artifact_message
from baldistill.runtime.launching import Job, JobKind, JobStopped
from baldistill.runtime.progress import no_progress_of_any
from baldistill.tasks.comparison import best_word_f1
from baldistill.testing.faces import Face, serving
from baldistill.testing.small_runs import RUN_ID, TENANT, SmallRun
from baldistill.v1 import trainer_pb2 as pb
from baldistill.v1.trainer_pb2_grpc import TrainerServiceStub
from services.trainer.evaluate_job import evaluate
from services.trainer.registry import StudentRegistry
from services.trainer.servers.servicer import TrainerServicer, bound

SIZES = {"billing": 3, "login": 2}


@dataclass
class Launched:
    """A launcher that only remembers."""

    jobs: list[Job] = field(default_factory=list)

    def launch(self, job: Job) -> None:
        self.jobs.append(job)

    def stop(self, *, tenant: str, run_id: str) -> None:
        raise AssertionError("nobody asked for it")

    def is_busy(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Scene:
    run: SmallRun
    launched: Launched
    face: Face

    def stub(self, token: str = TENANT) -> TrainerServiceStub:
        return TrainerServiceStub(self.face.channel(token))

    def has_student(self, stage: int, *, macro: float | None = None) -> ArtifactRef:
        """Store what a training would; no weights are needed here."""
        store, layout = self.run.store, self.run.frozen.layout.stage(stage)
        file = store.put_bytes(folder=layout.folder, name="adapter_model.safetensors", data=f"stage {stage}".encode())
        manifest = store.create_manifest(Manifest(key=layout.student, files={"adapter_model": file}, rows=10 * stage))
        if macro is not None:
            self.is_measured(stage, macro=macro)
        return store.manifest_ref(manifest)

    def is_measured(self, stage: int, *, macro: float) -> None:
        store, layout = self.run.store, self.run.frozen.layout.stage(stage)
        data = json.dumps({"report": {"macro": macro}}).encode()
        file = store.put_bytes(folder=layout.folder, name="metrics.json", data=data)
        store.create_manifest(Manifest(key=layout.metrics, files={"metrics": file}))

    def examples(self, *, tenant: str = TENANT) -> ArtifactRef:
        rows = [{"id": "e1", "domain": "billing", "input": "The refund number 7", "answer": "billing"}]
        folder = f"tenants/{tenant}/datasets/mine"
        return store_table(self.run.store, folder=folder, name="examples", schema=EXAMPLES, rows=rows)

    def evaluation(self, examples: ArtifactRef) -> Job:
        return evaluation(self.run, examples)

    def evaluated(self, job: Job) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        return evaluated(job, self.run)


def evaluation(run: SmallRun, examples: ArtifactRef) -> Job:
    """Return the job that asks for the zero-shot student's answers."""
    return Job(
        tenant=TENANT,
        run_id=RUN_ID,
        epoch=1,
        stage=0,
        spec=run.spec,
        kind=JobKind.EVALUATE,
        examples=examples,
        max_new_tokens=4,
    )


def evaluated(job: Job, run: SmallRun) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Do a job and return its report and its predictions."""
    evaluate(job, lambda: False, store=run.store, progress=no_progress_of_any)
    manifest = run.store.find_manifest(evaluation_manifest(tenant=TENANT, name=job.name))
    assert manifest is not None
    report = json.loads(run.store.read_bytes(manifest.files["metrics"]))["report"]
    return report, list(read_table(run.store, manifest.files["predictions"]))


@pytest.fixture
def scene(tmp_path: Path, tiny_base: Path) -> Iterator[Scene]:
    run = SmallRun.create(LocalArtifactStore(tmp_path / "store"), base=tiny_base, pool=SIZES, test=SIZES)
    launched = Launched()
    servicer = TrainerServicer(run.store, StudentRegistry(run.store), launched, generator=None)
    with serving(bound(servicer)) as face:
        yield Scene(run, launched, face)


def test_a_student_is_found_by_run_and_stage_or_as_the_newest(scene: Scene) -> None:
    scene.is_measured(0, macro=0.25)
    scene.has_student(1, macro=0.5)
    newest = scene.has_student(2)
    stub = scene.stub()
    first = stub.GetStudent(pb.GetStudentRequest(tenant=TENANT, run_id=RUN_ID, stage=1)).student
    assert (first.stage, first.trained_rows, first.macro_score) == (1, 10, 0.5)
    assert first.base_model == scene.run.frozen.base_model.name
    found = stub.GetStudent(pb.GetStudentRequest(tenant=TENANT, run_id=RUN_ID)).student
    assert (found.stage, found.student.sha256) == (2, newest.sha256)
    assert not found.HasField("macro_score")
    assert not found.HasField("metrics")


def test_students_are_listed_newest_first_in_pages(scene: Scene) -> None:
    scene.is_measured(0, macro=0.25)
    for stage in (1, 2):
        scene.has_student(stage, macro=0.5)
    seen, token = [], ""
    while True:
        request = pb.ListStudentsRequest(tenant=TENANT, page_size=2, page_token=token)
        page = scene.stub().ListStudents(request)
        seen += [(one.run_id, one.stage) for one in page.students]
        if not (token := page.next_page_token):
            break
    assert seen == [(RUN_ID, 2), (RUN_ID, 1), (RUN_ID, 0)]


def test_a_version_is_promoted_once_and_never_given_to_another_student(scene: Scene) -> None:
    for stage in (1, 2):
        scene.has_student(stage, macro=0.5)
    stub = scene.stub()
    request = pb.PromoteStudentRequest(tenant=TENANT, run_id=RUN_ID, stage=1, name="support", version="v1")
    promoted = stub.PromoteStudent(request).student
    assert (promoted.promoted_name, promoted.promoted_version, promoted.stage) == ("support", "v1", 1)
    assert stub.PromoteStudent(request).student == promoted
    with pytest.raises(AlreadyThere, match="stage 1"):
        stub.PromoteStudent(
            pb.PromoteStudentRequest(tenant=TENANT, run_id=RUN_ID, stage=2, name="support", version="v1")
        )
    stub.PromoteStudent(pb.PromoteStudentRequest(tenant=TENANT, run_id=RUN_ID, stage=2, name="support", version="v2"))
    listed = stub.ListStudents(pb.ListStudentsRequest(tenant=TENANT, promoted_name="support")).students
    assert [(one.promoted_version, one.stage) for one in listed] == [("v2", 2), ("v1", 1)]


def test_an_evaluation_is_launched_under_a_name_that_its_request_decides(scene: Scene) -> None:
    student, examples = artifact_message(scene.has_student(1)), artifact_message(scene.examples())
    request = pb.EvaluateStudentRequest(tenant=TENANT, student=student, examples=examples, max_new_tokens=8)
    names = {scene.stub().EvaluateStudent(request).name for _ in range(2)}
    assert len(names) == 1
    other = pb.EvaluateStudentRequest(tenant=TENANT, student=student, examples=examples)
    assert scene.stub().EvaluateStudent(other).name not in names
    job = scene.launched.jobs[0]
    assert (job.kind, job.run_id, job.stage, job.max_new_tokens) == (JobKind.EVALUATE, RUN_ID, 1, 8)
    assert scene.launched.jobs[-1].max_new_tokens == 200


def test_an_evaluation_stores_answers_and_scores_once(scene: Scene) -> None:
    job = scene.evaluation(scene.examples())
    with pytest.raises(JobStopped):
        evaluate(job, lambda: True, store=scene.run.store, progress=no_progress_of_any)
    report, (row,) = scene.evaluated(job)
    assert (row["id"], row["truth"]) == ("e1", "billing")
    billing = report["domains"]["billing"]
    assert (report["metric"], report["items"], billing["items"]) == ("f1", 1, 1)
    assert billing["correct"] == int(row["is_correct"]) == int(row["prediction"] == "billing")
    assert billing["answer_nll"] == row["answer_nll"] > 0
    # The run's domains and groups, asked for or not.
    assert report["domains"]["login"]["items"] == 0
    # Done already: nothing is loaded, nothing is asked.
    evaluate(job, lambda: True, store=scene.run.store, progress=no_progress_of_any)


def test_an_evaluation_scores_as_the_students_own_task_does(tmp_path: Path, tiny_base: Path) -> None:
    store = LocalArtifactStore(tmp_path / "store")
    run = SmallRun.create(store, base=tiny_base, pool=SIZES, test=SIZES, task={"kind": "abstractive_qa"})
    asked = {"e1": "refund the seven", "e2": "nothing at all"}
    rows = [{"id": one, "domain": "billing", "input": "Which refund?", "answer": text} for one, text in asked.items()]
    examples = store_table(store, folder=f"tenants/{TENANT}/mine", name="examples", schema=EXAMPLES, rows=rows)
    report, answered = evaluated(evaluation(run, examples), run)
    credit = [best_word_f1(row["prediction"], [row["truth"]]).credit for row in answered]
    assert [row["credit"] for row in answered] == credit
    assert report["metric"] == "word_f1"
    assert report["domains"]["billing"]["score"] == sum(credit) / 2


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "no rows"),
        ([("a", "billing", "x", " ")], "row 1: `answer`"),
        ([("a", "billing", None, "y")], "row 1: `input`"),
        ([("a", "billing", "x", "y"), ("a", "login", "x", "y")], "same id"),
    ],
)
def test_examples_that_cannot_be_scored_are_refused_before_a_student_is_loaded(
    scene: Scene, rows: list[tuple[str | None, ...]], told: str
) -> None:
    names = ("id", "domain", "input", "answer")
    schema = pa.schema([(name, pa.string()) for name in names])
    table = [dict(zip(names, row, strict=True)) for row in rows]
    examples = store_table(scene.run.store, folder=f"tenants/{TENANT}/mine", name="examples", schema=schema, rows=table)
    job = scene.evaluation(examples)
    with pytest.raises(InvalidInput, match=told):
        evaluate(job, lambda: False, store=scene.run.store, progress=no_progress_of_any)


def test_strangers_learn_nothing_and_change_nothing(scene: Scene) -> None:
    student, examples = artifact_message(scene.has_student(1)), artifact_message(scene.examples())
    stranger = scene.stub("other")
    told = set()
    for run_id in (RUN_ID, "no-such-run"):
        with pytest.raises(AccessDenied) as denied:
            stranger.GetStudent(pb.GetStudentRequest(tenant=TENANT, run_id=run_id))
        told.add(str(denied.value))
    assert len(told) == 1
    with pytest.raises(NotKnown):
        stranger.EvaluateStudent(pb.EvaluateStudentRequest(tenant="other", student=student, examples=examples))
    theirs = artifact_message(scene.examples(tenant="other"))
    with pytest.raises(NotKnown):
        scene.stub().EvaluateStudent(pb.EvaluateStudentRequest(tenant=TENANT, student=student, examples=theirs))
    assert scene.launched.jobs == []


def test_what_is_not_there_is_said_with_what_is(scene: Scene) -> None:
    scene.has_student(1)
    stub = scene.stub()
    with pytest.raises(NotKnown, match="there: 1"):
        stub.GetStudent(pb.GetStudentRequest(tenant=TENANT, run_id=RUN_ID, stage=2))
    with pytest.raises(NotKnown, match="no run"):
        stub.GetStudent(pb.GetStudentRequest(tenant=TENANT, run_id="nothing"))
    with pytest.raises(InvalidInput, match="manifest of a student"):
        stub.Generate(
            pb.GenerateRequest(tenant=TENANT, student=artifact_message(scene.examples()), inputs=["a question"])
        )


def test_nobody_answers_questions_while_no_worker_runs(scene: Scene) -> None:
    student = artifact_message(scene.has_student(1))
    with pytest.raises(DependencyUnavailable, match="BALDISTILL_GENERATE_WORKER"):
        scene.stub().Generate(pb.GenerateRequest(tenant=TENANT, student=student, inputs=["a question"]))
