"""What a call without an answer means for the request, for its key, and for the work."""

from __future__ import annotations

import pytest

from services.teacher_gateway.ports import CallEnd, CallResult
from services.teacher_gateway.verdicts import (
    REFUSED_KEY_RESTS_S,
    Next,
    Unanswered,
    given_up,
    key_rests_s,
    next_step,
)

LOST = CallResult(end=CallEnd.LOST)
NEVER_SENT = CallResult(end=CallEnd.NEVER_SENT)


def http(status: int, *, retry_after_s: float | None = None) -> CallResult:
    return CallResult(end=CallEnd.HTTP_ERROR, status=status, retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("result", "alone", "last", "with_another_key"),
    [
        (NEVER_SENT, Next.TEACHER_AWAY, Next.TEACHER_AWAY, Next.TEACHER_AWAY),
        (LOST, Next.LATER, Next.GIVE_UP, Next.LATER),
        (http(400), Next.GIVE_UP, Next.GIVE_UP, Next.GIVE_UP),
        (http(401), Next.STOP, Next.STOP, Next.ANOTHER_KEY),
        (http(402), Next.STOP, Next.STOP, Next.ANOTHER_KEY),
        (http(403), Next.STOP, Next.STOP, Next.ANOTHER_KEY),
        (http(404), Next.STOP, Next.STOP, Next.STOP),
        (http(408), Next.LATER, Next.GIVE_UP, Next.LATER),
        (http(422), Next.GIVE_UP, Next.GIVE_UP, Next.GIVE_UP),
        (http(429), Next.LATER, Next.GIVE_UP, Next.ANOTHER_KEY),
        (http(500), Next.LATER, Next.GIVE_UP, Next.LATER),
        (http(503), Next.LATER, Next.GIVE_UP, Next.LATER),
    ],
)
def test_each_end_has_one_next_step(result: CallResult, alone: Next, last: Next, with_another_key: Next) -> None:
    assert next_step(result, other_key_awake=False, last_try=False) is alone
    assert next_step(result, other_key_awake=False, last_try=True) is last
    assert next_step(result, other_key_awake=True, last_try=False) is with_another_key


def test_a_key_rests_as_long_as_it_was_told_and_long_where_it_was_refused() -> None:
    rests = {
        result: key_rests_s(result, failures=1, request_id="k/1")
        for result in (http(429, retry_after_s=7), http(429, retry_after_s=9999), http(401), http(500), LOST)
    }
    assert list(rests.values()) == [7, 120, REFUSED_KEY_RESTS_S, 0, 0]
    assert 0.25 <= key_rests_s(http(429), failures=1, request_id="k/1") <= 0.5


def test_a_request_that_was_given_up_says_whether_the_teacher_may_be_at_fault() -> None:
    assert given_up(http(400)) == Unanswered(reason="http_400")
    assert given_up(http(429)) == Unanswered(reason="http_429", teacher_failed=True, overloaded=True)
    assert given_up(http(500)) == Unanswered(reason="http_500", teacher_failed=True)
    assert given_up(LOST) == Unanswered(reason="lost", teacher_failed=True)
