"""Promises of JobRegistry, over every database: one owner per job, at every moment."""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from baldistill.artifacts.ports import ArtifactRef
from baldistill.jobs.registry import Claim, JobRegistry, JobState, Standing
from baldistill.jobs.sql_registry import SqlJobRegistry
from baldistill.runtime.launching import Job, JobKind
from baldistill.testing.databases import DATABASE_KINDS, StoppedClock, new_location, open_test_database

SPEC = ArtifactRef(key="spec.json", sha256="0" * 64, size_bytes=2)
EXAMPLES = ArtifactRef(key="examples.parquet", sha256="1" * 64, size_bytes=3, rows=4)
LEASE_S = 10.0


def job(stage: int = 1, *, epoch: int = 1, run_id: str = "r", tenant: str = "acme") -> Job:
    return Job(tenant=tenant, run_id=run_id, epoch=epoch, stage=stage, spec=SPEC)


@dataclass
class Shared:
    """A registry, and the clock that its leases go by."""

    registry: JobRegistry
    clock: StoppedClock

    def claim(self, owner: str, *, limit: int = 1, trust_leases: bool = True) -> list[Claim]:
        return self.registry.claim(
            owner=owner, kinds=[JobKind.TRAIN], limit=limit, lease_s=LEASE_S, trust_leases=trust_leases
        )

    def state(self, one: Job) -> JobState:
        record = self.registry.find(tenant=one.tenant, name=one.name)
        assert record is not None
        return record.state


@pytest.fixture(params=DATABASE_KINDS)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shared]:
    with new_location(request.param, tmp_path) as location:
        engine = open_test_database(kind=request.param, location=location)
        clock = StoppedClock()
        yield Shared(SqlJobRegistry(engine, clock=clock), clock)
        engine.dispose()


def test_a_job_comes_back_as_it_was_put(shared: Shared) -> None:
    asked = Job(
        tenant="acme",
        run_id="r",
        epoch=2,
        stage=1,
        spec=SPEC,
        budget_exhausted=True,
        kind=JobKind.EVALUATE,
        examples=EXAMPLES,
        max_new_tokens=9,
    )
    shared.registry.put(asked)
    record = shared.registry.find(tenant="acme", name=asked.name)
    assert record is not None
    assert (record.job, record.state, record.owner) == (asked, JobState.OPEN, "")
    assert shared.registry.find(tenant="other", name=asked.name) is None


def test_a_job_is_claimed_once_and_the_oldest_first(shared: Shared) -> None:
    for stage in (2, 1):
        shared.registry.put(job(stage))
        shared.clock.advance(1)
    assert [one.job.stage for one in shared.claim("a")] == [2]
    assert [one.job.stage for one in shared.claim("b", limit=5)] == [1]
    assert shared.claim("c") == []


def test_a_watcher_takes_only_the_kinds_that_it_can_do(shared: Shared) -> None:
    shared.registry.put(Job(tenant="acme", run_id="r", epoch=1, stage=1, spec=SPEC, kind=JobKind.SCORE))
    assert shared.claim("a") == []
    assert not shared.registry.has_open([JobKind.TRAIN])
    assert shared.registry.has_open([JobKind.SCORE])


def test_of_many_racing_owners_one_gets_the_job(shared: Shared) -> None:
    for stage in range(8):
        shared.registry.put(job(stage))
    barrier = threading.Barrier(8)
    got: dict[str, list[int]] = {}

    def race(owner: str) -> None:
        barrier.wait()
        got[owner] = [one.job.stage for one in shared.claim(owner, limit=3)]

    run_all([lambda owner=f"o{number}": race(owner) for number in range(8)])  # type: ignore[misc]
    assert sorted(stage for stages in got.values() for stage in stages) == list(range(8))


def test_many_racing_launches_make_one_job_under_the_newest_epoch(shared: Shared) -> None:
    # Many times: a launch that looked a moment before another's job was there lost its epoch in one of
    # some ten rounds on PostgreSQL.
    rounds = 60
    for stage in range(rounds):
        race = [job(stage, epoch=epoch) for epoch in range(1, 9)]
        run_all([functools.partial(shared.registry.put, one) for one in race])
    claims = shared.claim("a", limit=2 * rounds)
    assert sorted((one.job.stage, one.job.epoch) for one in claims) == [(stage, 8) for stage in range(rounds)]


def test_a_lease_keeps_the_job_until_it_is_over_and_a_late_owner_hears_that_it_lost(shared: Shared) -> None:
    shared.registry.put(job())
    (first,) = shared.claim("a")
    shared.clock.advance(LEASE_S - 1)
    assert shared.registry.beat(first, owner="a", lease_s=LEASE_S) is Standing.KEEP
    shared.clock.advance(LEASE_S - 1)
    assert shared.claim("b") == []
    shared.clock.advance(2)
    assert shared.claim("b", trust_leases=False) == []
    (second,) = shared.claim("b")
    assert second.job == first.job
    assert shared.registry.beat(first, owner="a", lease_s=LEASE_S) is Standing.LOST
    assert shared.registry.finish(first, owner="a", epoch=1, state=JobState.DONE) is None
    shared.registry.release(first, owner="a")
    assert shared.registry.beat(second, owner="b", lease_s=LEASE_S) is Standing.KEEP
    assert shared.state(job()) is JobState.OPEN


def test_what_a_proven_dead_owner_had_is_free_at_once(shared: Shared) -> None:
    shared.registry.put(job())
    (claim,) = shared.claim("dead")
    assert shared.registry.owners() == ["dead"]
    assert shared.registry.free(owner="dead") == 1
    assert [one.job for one in shared.claim("b", trust_leases=False)] == [claim.job]


def test_a_stop_reaches_the_owner_and_the_job_is_not_taken_again(shared: Shared) -> None:
    shared.registry.put(job())
    shared.registry.put(job(run_id="other"))
    (mine, _) = shared.claim("a", limit=2)
    assert mine.job.run_id in {"r", "other"}
    shared.registry.stop_run(tenant="acme", run_id=mine.job.run_id)
    assert shared.registry.beat(mine, owner="a", lease_s=LEASE_S) is Standing.STOP
    shared.registry.release(mine, owner="a")
    assert shared.claim("b") == []
    assert shared.state(mine.job) is JobState.STOPPED


def test_a_job_opened_again_waits_until_its_stopped_owner_has_let_go(shared: Shared) -> None:
    shared.registry.put(job())
    (old,) = shared.claim("a")
    shared.registry.stop_run(tenant="acme", run_id="r")
    shared.registry.put(job(epoch=3))
    assert shared.claim("b") == []
    assert shared.registry.beat(old, owner="a", lease_s=LEASE_S) is Standing.STOP
    shared.registry.release(old, owner="a", failed=True, delay_s=60)
    (new,) = shared.claim("b")
    assert (new.job.epoch, new.failures) == (3, 0)


def test_a_launch_under_an_older_epoch_does_not_open_what_was_stopped(shared: Shared) -> None:
    shared.registry.put(job(epoch=2))
    shared.registry.stop_run(tenant="acme", run_id="r")
    shared.registry.put(job(epoch=1))
    assert shared.claim("a") == []


def test_failures_are_counted_and_waited_for(shared: Shared) -> None:
    shared.registry.put(job())
    (claim,) = shared.claim("a")
    shared.registry.release(claim, owner="a", delay_s=5, failed=True)
    assert shared.claim("a") == []
    shared.clock.advance(6)
    assert [one.failures for one in shared.claim("a")] == [1]


def test_a_newer_epoch_that_came_while_it_was_reported_is_reported_too(shared: Shared) -> None:
    shared.registry.put(job())
    (claim,) = shared.claim("a")
    shared.registry.put(job(epoch=4))
    waiting = shared.registry.finish(claim, owner="a", epoch=1, state=JobState.DONE)
    assert waiting is not None
    assert waiting.epoch == 4
    assert shared.registry.finish(claim, owner="a", epoch=4, state=JobState.DONE) is None
    assert shared.state(job()) is JobState.DONE
    assert not shared.registry.has_open([JobKind.TRAIN])


@pytest.mark.parametrize("ended", [JobState.DONE, JobState.FAILED])
def test_a_job_that_ended_is_opened_again_by_a_launch(shared: Shared, ended: JobState) -> None:
    shared.registry.put(job())
    (claim,) = shared.claim("a")
    shared.registry.finish(claim, owner="a", epoch=1, state=ended, reason="because")
    record = shared.registry.find(tenant="acme", name=job().name)
    assert record is not None
    assert (record.state, record.owner, record.reason) == (ended, "", "because")
    assert shared.claim("a") == []
    shared.registry.put(job(epoch=2))
    assert [one.job.epoch for one in shared.claim("a")] == [2]


def run_all(steps: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=step) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_jobs_are_counted_by_kind_and_by_how_they_stand(shared: Shared) -> None:
    for stage in range(4):
        shared.registry.put(job(stage))
        shared.clock.advance(1)
    shared.registry.put(Job(tenant="acme", run_id="r", epoch=1, stage=9, spec=SPEC, kind=JobKind.SCORE))
    done, failed, _running = shared.claim("a", limit=3)
    shared.registry.finish(done, owner="a", epoch=1, state=JobState.DONE)
    shared.registry.finish(failed, owner="a", epoch=1, state=JobState.FAILED, reason="no")
    counts = shared.registry.count([JobKind.TRAIN, JobKind.EVALUATE])
    assert {standing: number for (kind, standing), number in counts.items() if kind is JobKind.TRAIN} == {
        "open": 1,
        "running": 1,
        "stopped": 0,
        "done": 1,
        "failed": 1,
    }
    assert {number for (kind, _), number in counts.items() if kind is JobKind.EVALUATE} == {0}
    assert JobKind.SCORE not in {kind for kind, _ in counts}


def test_a_claim_says_how_long_ago_its_job_was_launched_for_the_last_time(shared: Shared) -> None:
    shared.registry.put(job())
    shared.clock.advance(7)
    (claim,) = shared.claim("a")
    assert claim.age_s == 7
    shared.registry.release(claim, owner="a")
    shared.clock.advance(1)
    shared.registry.put(job(epoch=2))
    (again,) = shared.claim("a")
    assert again.age_s == 8
    shared.registry.finish(again, owner="a", epoch=2, state=JobState.FAILED, reason="no")
    shared.registry.put(job(epoch=3))
    shared.clock.advance(2)
    (reopened,) = shared.claim("a")
    assert reopened.age_s == 2


def test_a_job_keeps_the_trace_of_its_newest_launch(shared: Shared) -> None:
    traces = [f"00-{digit * 32}-{digit * 16}-01" for digit in "12"]
    for epoch, trace in enumerate(traces, start=1):
        shared.registry.put(dataclasses.replace(job(epoch=epoch), traceparent=trace))
    (claim,) = shared.claim("a")
    assert claim.job.traceparent == traces[1]
    assert claim.job == job(epoch=2)


def test_what_was_written_before_jobs_had_traces_is_read() -> None:
    document = json.loads(job().to_json())
    del document["traceparent"]
    assert Job.from_json(json.dumps(document)) == job()


def test_the_jobs_of_a_deleted_run_are_forgotten_and_their_owner_hears_it(shared: Shared) -> None:
    shared.registry.put(job(1))
    (claim,) = shared.claim("a")
    kept = (job(run_id="other"), job(tenant="umbrella"))
    for one in (job(2), *kept):
        shared.registry.put(one)
    assert shared.registry.forget_run(tenant="acme", run_id="r") == 2
    assert shared.registry.find(tenant="acme", name=job(1).name) is None
    assert shared.registry.beat(claim, owner="a", lease_s=LEASE_S) is Standing.LOST
    assert [shared.state(one) for one in kept] == [JobState.OPEN, JobState.OPEN]
    assert shared.registry.forget_run(tenant="acme", run_id="r") == 0
