"""The selector's benchmark compares like with like: on a tiny student, all ways of scoring give the same scores."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from baldistill.student.base_models import resolve_base_model
from baldistill.student.loading import load_student
from baldistill.student.precision import StudentDtype
from tests.bench import selector_student
from tests.bench.bench_selector import agreement, closeness, score_by_selector, score_plainly
from tests.bench.selector_student import frozen_run, items_of, trained_student


def test_the_selector_scores_as_the_textbook_does(
    real_data: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALDISTILL_DATA", str(real_data))
    monkeypatch.setattr(selector_student, "model_cache", lambda: tmp_path)
    monkeypatch.setattr(selector_student, "STEPS", 1)
    base = resolve_base_model(str(tiny_base))
    ours, plain = (load_student(base, dtype=StudentDtype.FLOAT32, adapter=trained_student(base)) for _ in range(2))
    sides: dict[str, dict[str, object]] = {"ours": {}, "textbook": {}, "reference": {}}
    for name in ("r8", "gsm8k"):
        frozen = frozen_run(name, base=base, threads=1)
        short = frozen.spec.selection.model_copy(update={"max_new_tokens": 8})
        frozen = frozen.model_copy(update={"spec": frozen.spec.model_copy(update={"selection": short})})
        items = items_of(name, count=3)
        for side, scores in (
            ("ours", score_by_selector(ours, frozen, items)),
            ("textbook", score_plainly(plain, frozen, items, batch=1)),
            ("reference", score_plainly(plain, frozen, items, batch=2)),
        ):
            sides[side] |= {item.example_id: asdict(score) for item, score in zip(items, scores, strict=True)}
    for side in ("textbook", "reference"):
        found = agreement(sides["ours"], sides[side])
        assert found["different_answers_fp32"] == 0
        assert found["max_rel_error_fp32"] < 1e-4
    same = closeness(sides["ours"], sides["textbook"])
    assert (same["topk_overlap_bf16_fp32"], same["different_answers_bf16_fp32"]) == (1.0, 0.0)
