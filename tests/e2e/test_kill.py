"""kill -9 at ten moments of a run: it goes on each time, pays nothing twice, and leaves the same bytes.

No lock survives either: a home that were still locked would end the next start with code 75.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from baldistill.testing.processes import TeacherProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.conftest import RunHome

KILLS = 10
CONCURRENCY = 3
LATENCY_S = 0.2
PLANNED_CALLS = 72
SIZES = {"billing": 80, "login": 50, "shipping": 9, "gift": 4}
FREE = {"input_usd_per_million_tokens": 0, "output_usd_per_million_tokens": 0}


class Itinerary:
    """What a run has come past: requests that the teacher saw, each key once, and manifests, checkpoints included."""

    def __init__(self, home: RunHome, teacher: TeacherProcess) -> None:
        self._home = home
        self._teacher = teacher
        self._seen_before = len(teacher.seen())
        self.milestones: list[str] = []
        self._known: set[str] = set()

    def seen(self) -> list[str]:
        return self._teacher.seen()[self._seen_before :]

    def look(self) -> None:
        """Note what is new."""
        requests = {request_id.rpartition("/")[0] for request_id in self.seen()}
        for one in [f"request {number}" for number in range(1, len(requests) + 1)] + self._home.manifests():
            if one not in self._known:
                self._known.add(one)
                self.milestones.append(one)

    def has_come_to(self, place: int, *, of: list[str]) -> bool:
        """Tell whether any milestone from `place` on is passed: a killed run need not show each of them to us."""
        self.look()
        return not self._known.isdisjoint(of[place:])


@pytest.mark.timeout(900)
def test_a_run_killed_ten_times_pays_nothing_twice_and_leaves_the_same_bytes(
    tmp_path: Path, make_run_home: Callable[..., RunHome], capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(20_260)
    with TeacherProcess(tmp_path / "teacher", behaviour={"latency_s": LATENCY_S}) as teacher:
        undisturbed = make_run_home(tmp_path / "undisturbed", sizes=SIZES, **spec_changes(teacher.url))
        whole = Itinerary(undisturbed, teacher)
        with undisturbed.start() as process:
            while not process.has_ended():
                whole.look()
                time.sleep(0.01)
            assert process.wait().code == 0
        undisturbed.account().must_explain(whole.seen())

        killed = make_run_home(tmp_path / "killed", sizes=SIZES, **spec_changes(teacher.url))
        survived = Itinerary(killed, teacher)
        killed_at: list[str] = []
        for place in moments(whole.milestones, rng):
            with killed.start() as process:
                if place is None:
                    # While it still starts: nothing tells that moment but time.
                    process.wait_until(Elapsed(rng.uniform(0.1, 1.5)))
                else:
                    process.wait_until(partial(survived.has_come_to, place, of=whole.milestones))
                    process.wait_until(Elapsed(rng.uniform(0.0, LATENCY_S / 2)))
                process.kill()
                assert process.wait().code == -signal.SIGKILL
                killed_at.append("start" if place is None else whole.milestones[place])
        finished = killed.run()
        assert finished.code == 0, finished.err

        assert killed.data_files() == undisturbed.data_files()
        named = {role for _, role in killed.data_files()}
        assert named >= {"plan", "selection", "batch", "adapter_model"}
        account = killed.account()
        account.must_explain(survived.seen())
        assert account.stored == PLANNED_CALLS
    with capsys.disabled():
        spent, ceiling = account.budget.spent.calls, account.budget.ceilings.calls
        sys.stdout.write(
            f"\n{KILLS} kills: {len(survived.seen())} requests seen, {account.stored} stored, {account.unknown} UNKNOWN,"
            f" {spent} calls spent of {ceiling}; {len(killed.data_files())} data files equal\n"
            f"killed at {', '.join(killed_at)}\n"
        )


def moments(milestones: list[str], rng: random.Random) -> list[int | None]:
    """Choose when to kill: places on the way in their order, and twice None, while a process starts."""
    last = milestones.index("stage-03/student.json")
    asked = next(
        place for place in range(milestones.index("stage-02/plan.json"), last) if "request" in milestones[place]
    )
    training = [place for place in range(last) if "stage-02/checkpoints" in milestones[place]]
    aimed = {asked, rng.choice(training)}
    others = rng.sample([place for place in range(last) if place not in aimed], KILLS - len(aimed) - 2)
    chosen: list[int | None] = [*sorted(aimed | set(others))]
    for _ in range(2):
        chosen.insert(rng.randrange(1, len(chosen)), None)
    return chosen


class Elapsed:
    """Becomes true after a while."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def __call__(self) -> bool:
        return time.monotonic() >= self._until


def spec_changes(url: str) -> dict[str, Any]:
    """Long enough to be killed in: three stages, synthesis in two of them, some seconds of training in each."""
    return {
        "stages": 3,
        "threads": 1,
        # A kill leaves at most the calls under way without an outcome.
        "budget": {"examples": PLANNED_CALLS, "calls": PLANNED_CALLS + KILLS * CONCURRENCY},
        "teacher": {"kind": "openai", "base_url": url, "price": FREE, "concurrency": CONCURRENCY},
        "student": {"training": {"epochs": 8}},
        "evaluation": {"parity_items": 0, "per_domain": 4, "final": 20},
    }
