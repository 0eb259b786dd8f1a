"""Questions answered by a process of its own: the student's own answers, and a death costs one question."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.errors import DependencyUnavailable, NotAllowedNow
from baldistill.runtime.launching import Job
from baldistill.runtime.progress import no_progress_of_any
from baldistill.testing.small_runs import RUN_ID, TENANT, SmallRun, small_examples
from services.trainer.composition import process_generator
from services.trainer.evaluate_job import with_longest_answer
from services.trainer.export import predict
from services.trainer.job import run_job

SIZES = {"billing": 3, "login": 2}
TEXTS = ["The refund number 3", "The password number 4"]


def test_a_process_answers_as_the_student_does_and_comes_back_after_its_death(tmp_path: Path, tiny_base: Path) -> None:
    run = SmallRun.create(LocalArtifactStore(tmp_path / "store"), base=tiny_base, pool=SIZES, test=SIZES)
    run.rationales_collected(stage=1, examples=small_examples(SIZES, prefix="pool"))
    job = Job(tenant=TENANT, run_id=RUN_ID, epoch=1, stage=1, spec=run.spec)
    run_job(job, lambda: False, store=run.store, progress=no_progress_of_any)
    generator = process_generator(
        tmp_path / "logs", environment={"BALDISTILL_ARTIFACTS_FOLDER": str(tmp_path / "store")}
    )
    try:
        answers = generator.generate(spec=run.spec, stage=1, texts=TEXTS, max_new_tokens=6)
        limited = with_longest_answer(run.frozen, max_new_tokens=6)
        expected = predict(run.store, limited, stage=1, texts=TEXTS)
        assert [(one.text, one.answer, one.tokens) for one in answers] == [
            (one.text, one.answer, one.tokens) for one in expected
        ]
        with pytest.raises(NotAllowedNow, match="missing"):
            generator.generate(spec=run.spec, stage=2, texts=TEXTS, max_new_tokens=6)

        os.kill(generator_process(), signal.SIGKILL)
        # Its death is noticed by whoever asks next, before or after the question is written.
        with contextlib.suppress(DependencyUnavailable):
            generator.generate(spec=run.spec, stage=1, texts=TEXTS, max_new_tokens=6)
        assert generator.generate(spec=run.spec, stage=1, texts=TEXTS, max_new_tokens=6) == answers
    finally:
        generator.close()


def generator_process() -> int:
    """Return the id of this process's child that generates."""
    children = [int(one) for path in Path("/proc/self/task").glob("*/children") for one in path.read_text().split()]
    (found,) = [one for one in children if b"generate_process" in Path(f"/proc/{one}/cmdline").read_bytes()]
    return found
