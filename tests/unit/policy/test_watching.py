"""A watcher hears of its run alone, loses progress rather than memory, and never its last word."""

from __future__ import annotations

import threading

from baldistill.artifacts.ports import ArtifactRef
from baldistill.events.facts import ProgressReported, RunState, RunStateChanged, ShardScored
from services.policy.watching import RunWatchers

REF = ArtifactRef(key="x.json", sha256="00", size_bytes=1)


def progress(step: str, done: int, *, run_id: str = "r", stage: int = 1) -> ProgressReported:
    return ProgressReported(
        tenant="acme", run_id=run_id, epoch=1, stage=stage, step=step, done=done, total=9, unit="rows"
    )


def changed(run_id: str = "r") -> RunStateChanged:
    return RunStateChanged(tenant="acme", run_id=run_id, epoch=1, stage=1, state=RunState.PAUSED)


def test_a_watcher_is_told_of_its_run_alone() -> None:
    watchers = RunWatchers()
    with watchers.watch(tenant="acme", run_id="r") as watch, watchers.watch(tenant="other", run_id="r") as other:
        watchers.on_fact(changed("another"))
        assert watch.wait(timeout_s=0) == (False, [])
        watchers.on_fact(changed())
        assert watch.wait(timeout_s=0) == (True, [])
        assert watch.wait(timeout_s=0) == (False, [])
        assert other.wait(timeout_s=0) == (False, [])


def test_a_slow_watcher_gets_the_newest_of_each_step_and_the_mark() -> None:
    watchers = RunWatchers()
    with watchers.watch(tenant="acme", run_id="r") as watch:
        for done in range(1000):
            watchers.on_fact(progress("train", done))
            watchers.on_fact(progress("score", done))
        watchers.on_fact(changed())
        marked, steps = watch.wait(timeout_s=0)
    assert marked
    assert sorted((one.step, one.done) for one in steps) == [("score", 999), ("train", 999)]


def test_memory_is_bounded_whatever_steps_are_named() -> None:
    watchers = RunWatchers()
    with watchers.watch(tenant="acme", run_id="r") as watch:
        for number in range(1000):
            watchers.on_fact(progress(f"step-{number}", 1))
        _, steps = watch.wait(timeout_s=0)
    assert [one.step for one in steps] == [f"step-{number}" for number in range(936, 1000)]


def test_shards_move_no_run_and_wake_nobody() -> None:
    watchers = RunWatchers()
    shard = ShardScored(
        tenant="acme",
        run_id="r",
        epoch=1,
        stage=1,
        shard=0,
        shards=1,
        spec=REF,
        plan=REF,
        candidates=REF,
        student=REF,
        scores=REF,
    )
    with watchers.watch(tenant="acme", run_id="r") as watch:
        watchers.on_fact(shard)
        assert watch.wait(timeout_s=0) == (False, [])


def test_a_gap_has_everybody_look_and_a_watcher_that_left_is_forgotten() -> None:
    watchers = RunWatchers()
    with watchers.watch(tenant="acme", run_id="r") as watch:
        assert watchers.count() == 1
        watchers.mark_all()
        assert watch.wait(timeout_s=0) == (True, [])
    assert watchers.count() == 0


def test_a_waiting_watcher_wakes_at_once() -> None:
    watchers = RunWatchers()
    with watchers.watch(tenant="acme", run_id="r") as watch:
        timer = threading.Timer(0.05, watchers.on_fact, [changed()])
        timer.start()
        assert watch.wait(timeout_s=30) == (True, [])
        timer.join()
