"""What becomes of a finished job."""

from __future__ import annotations

from pathlib import Path

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactRef
from baldistill.events.codec import TRACE_HEADER
from baldistill.runtime.launching import Job
from services.trainer.outcomes import dead_letter_of

SPEC = ArtifactRef(key="spec.json", sha256="0" * 64, size_bytes=2)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_dead_letter_of_a_job_goes_on_in_the_trace_of_its_launch(tmp_path: Path) -> None:
    job = Job(tenant="acme", run_id="r", epoch=1, stage=0, spec=SPEC, traceparent=TRACE)
    letter = dead_letter_of(LocalArtifactStore(tmp_path), job, ValueError("a bug"))
    assert letter is not None
    assert letter.headers[TRACE_HEADER] == TRACE
