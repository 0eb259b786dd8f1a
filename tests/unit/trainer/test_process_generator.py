"""A generation process that hangs costs the question at hand, not the generator."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import DependencyUnavailable
from services.trainer.adapters.process_generator import ProcessGenerator
from services.trainer.ports import Generated

SPEC = ArtifactRef(key="spec.json", sha256="0" * 64, size_bytes=2)
# Answers as services.trainer.generate_process does, but for one question, which it never answers.
PROGRAM = """
import json, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    if asked["texts"] == ["hang"]:
        time.sleep(3600)
    answers = [{"text": text, "answer": text, "tokens": 1} for text in asked["texts"]]
    print(json.dumps({"answers": answers}), flush=True)
"""


def test_a_process_that_hangs_is_ended_and_the_next_question_has_another(tmp_path: Path) -> None:
    (tmp_path / "answering.py").write_text(PROGRAM)
    generator = ProcessGenerator(
        module="answering", log=tmp_path / "log", environment={"PYTHONPATH": str(tmp_path)}, hangs_s=1.0
    )
    try:
        with pytest.raises(DependencyUnavailable, match="it ended"):
            generator.generate(spec=SPEC, stage=1, texts=["hang"], max_new_tokens=1)
        answers: list[Generated] = []
        # On a machine so busy that a process does not start within the second, a later one will.
        for _ in range(20):
            with contextlib.suppress(DependencyUnavailable):
                answers = generator.generate(spec=SPEC, stage=1, texts=["go on"], max_new_tokens=1)
                break
        assert [answer.text for answer in answers] == ["go on"]
    finally:
        generator.close()
