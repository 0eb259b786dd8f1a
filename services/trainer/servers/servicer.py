"""TrainerService: students, their registry, evaluations and answers. Knows no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from baldistill.artifacts.ports import ArtifactStore
from baldistill.errors import InvalidInput
from baldistill.rpc.callers import require_tenant
from baldistill.rpc.calls import require_time_left
from baldistill.rpc.messages import answer_limit, artifact_message, own_artifact, own_student
from baldistill.rpc.pages import last_id_of, page_size, page_token
from baldistill.rpc.routes import BoundService
from baldistill.runtime.launching import Job, JobKind, JobLauncher
from baldistill.v1 import trainer_pb2 as pb
from baldistill.v1 import trainer_pb2_grpc
from services.trainer.ports import Generator, NoWorker
from services.trainer.registry import StudentRecord, StudentRegistry

SERVICE_NAME = "baldistill.v1.TrainerService"

_MOST_INPUTS = 64


@dataclass(frozen=True, slots=True)
class TrainerServicer(trainer_pb2_grpc.TrainerServiceServicer):
    """Answers about students. Thread-safe. generator: None while no worker runs."""

    store: ArtifactStore
    students: StudentRegistry
    launcher: JobLauncher
    generator: Generator | None

    def GetStudent(self, request: pb.GetStudentRequest, _context: object) -> pb.GetStudentResponse:
        require_tenant(request.tenant)
        record = self.students.get(tenant=request.tenant, run_id=request.run_id, stage=request.stage or None)
        return pb.GetStudentResponse(student=student_message(record))

    def ListStudents(self, request: pb.ListStudentsRequest, _context: object) -> pb.ListStudentsResponse:
        require_tenant(request.tenant)
        size, behind = page_size(request.page_size), last_id_of(request.page_token)
        rest = _behind(self._listed(request), behind)
        page = list(islice(rest, size + 1))
        token = page_token(_place(page[size - 1])) if len(page) > size else ""
        return pb.ListStudentsResponse(students=[student_message(one) for one in page[:size]], next_page_token=token)

    def PromoteStudent(self, request: pb.PromoteStudentRequest, _context: object) -> pb.PromoteStudentResponse:
        require_tenant(request.tenant)
        require_time_left()
        record = self.students.promote(
            tenant=request.tenant,
            run_id=request.run_id,
            stage=request.stage,
            name=request.name,
            version=request.version,
        )
        return pb.PromoteStudentResponse(student=student_message(record))

    def EvaluateStudent(self, request: pb.EvaluateStudentRequest, _context: object) -> pb.EvaluateStudentResponse:
        require_tenant(request.tenant)
        student = own_student(request.student, tenant=request.tenant, store=self.store)
        job = Job(
            tenant=request.tenant,
            run_id=student.run_id,
            epoch=1,
            stage=student.stage,
            spec=student.spec,
            kind=JobKind.EVALUATE,
            examples=own_artifact(request.examples, tenant=request.tenant, field="examples"),
            max_new_tokens=answer_limit(request.max_new_tokens),
        )
        require_time_left()
        self.launcher.launch(job)
        return pb.EvaluateStudentResponse(name=job.name)

    def Generate(self, request: pb.GenerateRequest, _context: object) -> pb.GenerateResponse:
        require_tenant(request.tenant)
        if not 1 <= len(request.inputs) <= _MOST_INPUTS:
            raise InvalidInput(f"needs 1 to {_MOST_INPUTS} questions", field="inputs")
        student = own_student(request.student, tenant=request.tenant, store=self.store)
        if self.generator is None:
            raise NoWorker
        answers = self.generator.generate(
            spec=student.spec,
            stage=student.stage,
            texts=list(request.inputs),
            max_new_tokens=answer_limit(request.max_new_tokens),
        )
        return pb.GenerateResponse(
            generations=[pb.Generation(text=one.text, answer=one.answer, tokens=one.tokens) for one in answers]
        )

    def _listed(self, request: pb.ListStudentsRequest) -> Iterator[StudentRecord]:
        if request.promoted_name:
            versions = self.students.promoted(tenant=request.tenant, name=request.promoted_name)
            return (one for one in versions if request.run_id in {"", one.frozen.run_id})
        if request.run_id:
            return iter(self.students.of_run(tenant=request.tenant, run_id=request.run_id))
        return self.students.of_tenant(tenant=request.tenant)


def bound(servicer: TrainerServicer) -> BoundService:
    """Return the service for a server."""
    return BoundService(name=SERVICE_NAME, servicer=servicer, add=trainer_pb2_grpc.add_TrainerServiceServicer_to_server)


def student_message(record: StudentRecord) -> pb.Student:
    """Return a student."""
    message = pb.Student(
        tenant=record.frozen.spec.tenant,
        run_id=record.frozen.run_id,
        stage=record.stage,
        base_model=record.frozen.base_model.name,
        trained_rows=record.trained_rows,
        promoted_name=record.promoted_name,
        promoted_version=record.promoted_version,
    )
    if record.student is not None:
        message.student.CopyFrom(artifact_message(record.student))
    if record.metrics is not None:
        message.metrics.CopyFrom(artifact_message(record.metrics))
    if record.macro_score is not None:
        message.macro_score = record.macro_score
    return message


def _place(record: StudentRecord) -> str:
    return f"{record.frozen.run_id}/{record.stage}/{record.promoted_version}"


def _behind(records: Iterator[StudentRecord], place: str) -> Iterator[StudentRecord]:
    """Skip to what comes behind a place; nothing comes where it is gone."""
    if place:
        for record in records:
            if _place(record) == place:
                break
    return records
