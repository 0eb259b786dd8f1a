"""Trainings in processes that are killed."""

from __future__ import annotations

from pathlib import Path

from tests.bench.bench_preemption import CHECKPOINT_EVERY_STEPS, preempt


def test_a_training_that_is_killed_ends_with_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    found = preempt(tmp_path, kills=2)
    assert found.killed == found.undisturbed
    assert found.repeated <= CHECKPOINT_EVERY_STEPS
