"""A job is data: its name is its work, and it survives being carried."""

from __future__ import annotations

import dataclasses

from baldistill.artifacts.ports import ArtifactRef
from baldistill.runtime.launching import Job, JobKind

SPEC = ArtifactRef(key="spec.json", sha256="0" * 64, size_bytes=2)
EXAMPLES = ArtifactRef(key="examples.parquet", sha256="1" * 64, size_bytes=3, rows=4)
TRAINING = Job(tenant="acme", run_id="r", epoch=1, stage=2, spec=SPEC)
EVALUATION = dataclasses.replace(TRAINING, kind=JobKind.EVALUATE, examples=EXAMPLES, max_new_tokens=9)


def test_a_job_is_read_back_as_it_was_written() -> None:
    for one in (TRAINING, EVALUATION, dataclasses.replace(TRAINING, budget_exhausted=True)):
        assert Job.from_json(one.to_json()) == one


def test_the_same_work_has_the_same_name_whatever_its_epoch() -> None:
    assert TRAINING.name == "train-r-2"
    assert dataclasses.replace(EVALUATION, epoch=7).name == EVALUATION.name


def test_another_request_has_another_name() -> None:
    others = [
        dataclasses.replace(EVALUATION, max_new_tokens=10),
        dataclasses.replace(EVALUATION, stage=1),
        dataclasses.replace(EVALUATION, examples=dataclasses.replace(EXAMPLES, sha256="2" * 64)),
        dataclasses.replace(EVALUATION, kind=JobKind.SCORE),
    ]
    assert len({one.name for one in [*others, EVALUATION, TRAINING]}) == 6
