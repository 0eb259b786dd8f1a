"""What a request comes to, and what a bad end of a call means for the next attempt. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from baldistill.seeding import stable_hash
from services.teacher_gateway.ledger.holds import Refused, Reply
from services.teacher_gateway.ports import CallEnd, CallResult

_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 30.0
_LONGEST_RETRY_AFTER_S = 120.0
# RFC 9110: timeout, conflict, too early, too many requests may succeed later; other 4xx are about the request.
_TRANSIENT_4XX = frozenset({408, 409, 425, 429})
# About key and permission, or its account: another key may do.
_ABOUT_THE_KEY = frozenset({401, 402, 403})
_ABOUT_THE_MODEL = 404
_TOO_MANY_REQUESTS = 429
_OVERLOADED = frozenset({429, 503})
# A key that was refused is looked at again after this: somebody may have paid a bill or mended a permission.
REFUSED_KEY_RESTS_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The reply. stored: it was bought before, nothing was paid now.   reused: and by another run of the tenant."""

    reply: Reply
    stored: bool = False
    reused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """No reply. reason: `http_400`, `http_500`, `lost`, or `budget_exhausted` with the refusal.

    teacher_failed: the teacher, not the request, may be at fault.   overloaded: it asked us to come back later.
    """

    reason: str
    refused: Refused | None = None
    teacher_failed: bool = False
    overloaded: bool = False


Outcome: TypeAlias = Answered | Unanswered


class Next(enum.Enum):
    """What is done after a call that brought no answer."""

    ANOTHER_KEY = "another key"
    LATER = "the same again, later"
    GIVE_UP = "this request will not be answered"
    STOP = "no request will be answered until a person looks"
    TEACHER_AWAY = "nothing was sent: wait for the teacher"


def next_step(result: CallResult, *, other_key_awake: bool, last_try: bool) -> Next:
    """Decide what follows a call without an answer."""
    if result.end is CallEnd.NEVER_SENT:
        return Next.TEACHER_AWAY
    if result.status in _ABOUT_THE_KEY:
        return Next.ANOTHER_KEY if other_key_awake else Next.STOP
    if result.status == _ABOUT_THE_MODEL:
        return Next.STOP
    if result.status == _TOO_MANY_REQUESTS and other_key_awake:
        return Next.ANOTHER_KEY
    if 400 <= result.status < 500 and result.status not in _TRANSIENT_4XX:
        return Next.GIVE_UP
    return Next.GIVE_UP if last_try else Next.LATER


def given_up(result: CallResult) -> Unanswered:
    """Return what a request comes to that is not tried again."""
    if 400 <= result.status < 500 and result.status not in _TRANSIENT_4XX:
        return Unanswered(reason=f"http_{result.status}")
    reason = f"http_{result.status}" if result.end is CallEnd.HTTP_ERROR else "lost"
    return Unanswered(reason=reason, teacher_failed=True, overloaded=result.status in _OVERLOADED)


def key_rests_s(result: CallResult, *, failures: int, request_id: str) -> float:
    """Return how long the key of a call is left alone: after a refusal long, after a 429 as told, else not at all."""
    if result.status in _ABOUT_THE_KEY:
        return REFUSED_KEY_RESTS_S
    if result.status == _TOO_MANY_REQUESTS:
        return backoff_s(result, failures=failures, request_id=request_id)
    return 0.0


def backoff_s(result: CallResult, *, failures: int, request_id: str) -> float:
    """Return the wait before the next attempt: the server's wish, else doubling from 0.5 s, spread by half."""
    if result.retry_after_s is not None:
        return min(result.retry_after_s, _LONGEST_RETRY_AFTER_S)
    doubled = min(_FIRST_BACKOFF_S * 2 ** max(0, failures - 1), _LONGEST_BACKOFF_S)
    return float(doubled * (0.5 + stable_hash("backoff", request_id) / 2**65))
