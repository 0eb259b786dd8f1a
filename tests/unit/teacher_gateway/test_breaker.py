"""The circuit breaker: a failing teacher is left alone, one call looks whether it is back, the work waits uncounted."""

from __future__ import annotations

import pytest

from baldistill.errors import DependencyUnavailable
from services.teacher_gateway.limits.breaker import (
    FAILURES_UNTIL_OPEN,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    Breakers,
    Circuit,
    after_failure,
)

URL = "http://teacher/v1"


class Time:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def breakers(time: Time) -> Breakers:
    return Breakers(monotonic_s=time)


def fail(breakers: Breakers, times: int = 1) -> None:
    for _ in range(times):
        breakers.admit(URL)
        breakers.failed(URL)


def test_a_row_of_failures_opens_it_and_an_answer_between_them_does_not(breakers: Breakers) -> None:
    fail(breakers, FAILURES_UNTIL_OPEN - 1)
    breakers.admit(URL)
    breakers.succeeded(URL)
    fail(breakers, FAILURES_UNTIL_OPEN)
    with pytest.raises(DependencyUnavailable, match="10 calls in a row failed"):
        breakers.admit(URL)
    assert breakers.open_circuits() == [URL]
    breakers.admit("http://another/v1")


def test_after_its_pause_one_call_is_let_through_and_an_answer_closes_it(breakers: Breakers, time: Time) -> None:
    fail(breakers, FAILURES_UNTIL_OPEN)
    time.now_s += FIRST_PAUSE_S
    breakers.admit(URL)
    with pytest.raises(DependencyUnavailable):
        breakers.admit(URL)
    breakers.succeeded(URL)
    breakers.admit(URL)
    breakers.admit(URL)
    assert breakers.open_circuits() == []


def test_a_probe_that_was_not_sent_lets_another_try(breakers: Breakers, time: Time) -> None:
    fail(breakers, FAILURES_UNTIL_OPEN)
    time.now_s += FIRST_PAUSE_S
    breakers.admit(URL)
    breakers.withdrew(URL)
    breakers.admit(URL)


def test_pauses_double_up_to_a_minute() -> None:
    circuit, now_s, pauses = Circuit(failures=FAILURES_UNTIL_OPEN - 1), 0.0, []
    for _ in range(6):
        circuit = after_failure(circuit, now_s=now_s)
        pauses.append(circuit.pause_s)
        now_s = circuit.open_until_s
        circuit = Circuit(
            failures=circuit.failures, open_until_s=circuit.open_until_s, pause_s=circuit.pause_s, probing=True
        )
    assert pauses == [5, 10, 20, 40, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_failures_of_calls_that_were_under_way_make_the_pause_no_longer(breakers: Breakers, time: Time) -> None:
    for _ in range(FAILURES_UNTIL_OPEN + 5):
        breakers.failed(URL)
    time.now_s += FIRST_PAUSE_S
    breakers.admit(URL)
