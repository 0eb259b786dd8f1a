"""What a process remembers of a store, and for how long."""

from __future__ import annotations

import tracemalloc

import pytest

from baldistill.artifacts.recent_objects import RecentObjects

KEY = "tenants/acme/runs/r1/stage-01/plan.json"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recent(clock: Clock) -> RecentObjects:
    return RecentObjects(remembered_s=30.0, clock=clock)


def test_an_object_is_remembered_for_its_time_however_often_it_is_asked_for(
    recent: RecentObjects, clock: Clock
) -> None:
    for clock.now in (0.0, 10.0, 20.0, 30.0):
        recent.put(KEY, b"plan")
        assert recent.get(KEY) == b"plan"
    clock.now = 30.1
    assert recent.get(KEY) is None
    recent.put(KEY, b"anew")
    clock.now = 60.0
    assert recent.get(KEY) == b"anew"


def test_what_carries_its_digest_in_its_name_is_remembered_without_a_limit_of_time(
    recent: RecentObjects, clock: Clock
) -> None:
    key = "tenants/acme/runs/r1/stage-01/plan-0123456789abcdef.json"
    recent.put(key, b"plan")
    clock.now = 1e9
    assert recent.get(key) == b"plan"
    recent.forget(folder="tenants/acme/runs/r1")
    assert recent.get(key) is None


@pytest.mark.parametrize(
    "key", ["tenants/acme/runs/r1/stage-01/checkpoints/step-1/checkpoint.json", "deletions/acme/r1/mark.json"]
)
def test_what_is_made_anew_elsewhere_is_not_remembered(recent: RecentObjects, key: str) -> None:
    recent.put(key, b"x")
    assert recent.get(key) is None


def test_big_objects_are_not_remembered_and_the_oldest_go_first(recent: RecentObjects) -> None:
    recent.put(KEY, b"x" * ((64 << 10) + 1))
    assert recent.get(KEY) is None
    for number in range(200):
        recent.put(f"tenants/acme/{number}.json", b"x" * (64 << 10))
    found = [recent.get(f"tenants/acme/{number}.json") is not None for number in range(200)]
    # 8 MiB hold 128 of them but for their keys.
    assert found == [False] * 73 + [True] * 127


def test_what_small_objects_take_beside_their_bytes_counts(recent: RecentObjects) -> None:
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(40_000):
        recent.put(f"tenants/acme/runs/r{number // 100}/stage-01/rationales/{number}.json", b"%200d" % number)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 6 << 20 < after - before < 10 << 20


def test_a_folder_is_forgotten_alone(recent: RecentObjects) -> None:
    recent.put("tenants/acme/runs/r1/spec.json", b"gone")
    recent.put("tenants/acme/runs/r10/spec.json", b"kept")
    recent.forget(folder="tenants/acme/runs/r1")
    assert recent.get("tenants/acme/runs/r1/spec.json") is None
    assert recent.get("tenants/acme/runs/r10/spec.json") == b"kept"
