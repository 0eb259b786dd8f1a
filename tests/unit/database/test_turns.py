"""One replica reports, and is silent until what the one before reported is gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from baldistill.database.turns import ReportingTurn
from baldistill.errors import DependencyUnavailable


class Scene:
    """A turn whose lock answers as it is told, and whose clock stands. stop: set after that many answers."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.now_s = 100.0
        self.seen: list[bool] = []
        self._answers = list(answers)
        self._stop = threading.Event()
        self.turn = ReportingTurn(
            self._take, handover_s=15, turn_s=0.001, ask_every_s=0.001, monotonic_s=lambda: self.now_s
        )

    @contextmanager
    def _take(self) -> Iterator[bool]:
        answer = self._answers.pop(0)
        if not self._answers:
            self._stop.set()
        if isinstance(answer, Exception):
            raise answer
        yield answer
        self.now_s += 10
        self.seen.append(self.turn.is_ours)

    def play(self) -> list[bool]:
        self.turn.run(self._stop)
        return self.seen


def test_a_replica_reports_once_it_has_had_the_turn_for_the_handover() -> None:
    assert Scene(True, True, True).play() == [False, True, True]


def test_a_replica_that_does_not_have_the_turn_does_not_report_and_begins_anew_when_it_gets_it_back() -> None:
    assert Scene(True, True, False, True, True).play() == [False, True, True, False, True]
    assert Scene(False, False, False).play() == [False, False, False]


@pytest.mark.parametrize("away", [DependencyUnavailable(dependency="database", reason="refused")])
def test_a_database_that_is_away_is_waited_for_and_ends_the_turn(away: Exception) -> None:
    assert Scene(True, True, away, True, True).play() == [False, True, False, True]


def test_a_replica_that_ended_does_not_report() -> None:
    scene = Scene(True, True, True)
    scene.play()
    assert not scene.turn.is_ours
