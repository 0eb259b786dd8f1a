from __future__ import annotations

from datetime import timedelta

from baldistill.runtime.retries import OutagePolicy, RetryPolicy


def test_five_tries_take_five_minutes() -> None:
    delays = [RetryPolicy().delay_s(attempt=attempt) for attempt in range(1, 6)]
    assert delays == [7.5, 22.5, 67.5, 202.5, None]


def test_an_outage_is_asked_about_ever_less_often_up_to_a_ceiling() -> None:
    policy = OutagePolicy(first_delay_s=1, factor=2, longest_delay_s=5)
    assert [policy.delay_s(failures=number) for number in (1, 2, 3, 4, 10_000)] == [1, 2, 4, 5, 5]


def test_a_service_waits_for_ever_and_others_as_long_as_they_say() -> None:
    assert not OutagePolicy().is_over(away_s=1e9)
    patient = OutagePolicy(give_up_after=timedelta(seconds=10))
    assert not patient.is_over(away_s=9.9)
    assert patient.is_over(away_s=10)
    assert OutagePolicy(give_up_after=timedelta(0)).is_over(away_s=0)
