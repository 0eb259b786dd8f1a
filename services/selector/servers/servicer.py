"""SelectorService: scores for callers outside of runs, and why a stage's examples were chosen. Knows no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from baldistill.artifacts.ports import ArtifactStore
from baldistill.rpc.callers import require_tenant
from baldistill.rpc.calls import require_time_left
from baldistill.rpc.messages import answer_limit, own_artifact, own_student
from baldistill.rpc.pages import last_number_of, page_size, page_token
from baldistill.rpc.routes import BoundService
from baldistill.runtime.launching import Job, JobKind
from baldistill.specs.frozen import find_run
from baldistill.v1 import selector_pb2 as pb
from baldistill.v1 import selector_pb2_grpc
from services.selector.explanations import Explanation, explain

SERVICE_NAME = "baldistill.v1.SelectorService"

_SCORED = ("ifd", "conditioned_nll", "unconditioned_nll", "generated_tokens", "hit_length_limit", "looping")


@dataclass(frozen=True, slots=True)
class SelectorServicer(selector_pb2_grpc.SelectorServiceServicer):
    """Answers about selections. Thread-safe. launch: has a job done by whatever worker runs."""

    store: ArtifactStore
    launch: Callable[[Job], None]

    def ScoreExamples(self, request: pb.ScoreExamplesRequest, _context: object) -> pb.ScoreExamplesResponse:
        require_tenant(request.tenant)
        student = own_student(request.student, tenant=request.tenant, store=self.store)
        job = Job(
            tenant=request.tenant,
            run_id=student.run_id,
            epoch=1,
            stage=student.stage,
            spec=student.spec,
            kind=JobKind.SCORE,
            examples=own_artifact(request.examples, tenant=request.tenant, field="examples"),
            max_new_tokens=answer_limit(request.max_new_tokens),
        )
        require_time_left()
        self.launch(job)
        return pb.ScoreExamplesResponse(name=job.name)

    def ExplainSelection(self, request: pb.ExplainSelectionRequest, _context: object) -> pb.ExplainSelectionResponse:
        require_tenant(request.tenant)
        size, start = page_size(request.page_size), last_number_of(request.page_token) or 0
        frozen, _ = find_run(self.store, tenant=request.tenant, run_id=request.run_id)
        found = explain(self.store, frozen, stage=request.stage, domain=request.domain, example_id=request.example_id)
        end = start + size
        return pb.ExplainSelectionResponse(
            candidates=[_candidate(one) for one in found[start:end]],
            next_page_token=page_token(str(end)) if end < len(found) else "",
        )


def bound(servicer: SelectorServicer) -> BoundService:
    """Return the service for a server."""
    return BoundService(
        name=SERVICE_NAME, servicer=servicer, add=selector_pb2_grpc.add_SelectorServiceServicer_to_server
    )


def _candidate(one: Explanation) -> pb.Candidate:
    scored = one.score or {}
    known = {name: scored[name] for name in _SCORED if scored.get(name) is not None}
    return pb.Candidate(
        example_id=one.example_id,
        domain=one.domain,
        selected=one.selected,
        rank=one.rank,
        reason=pb.SelectionReason.Value(f"SELECTION_REASON_{one.reason.name}"),
        **known,
    )
