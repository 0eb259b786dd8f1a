"""What a group of requests gets, by hand."""

from __future__ import annotations

from baldistill.tasks.bounds import CallBound
from services.teacher_gateway.ledger.budgets import NOTHING, Amounts, BudgetPath, BudgetState, Ceilings
from services.teacher_gateway.ledger.granting import (
    Asked,
    Grant,
    LastAttempt,
    Standing,
    held_by_window,
    propose,
)
from services.teacher_gateway.ledger.holds import (
    AlreadyStored,
    HoldState,
    InFlight,
    PromptMismatch,
    Refused,
    Reply,
    Reserved,
    ReserveRequest,
)

TENANT, RUN = BudgetPath(tenant="acme"), BudgetPath(tenant="acme", run_id="r")
REPLY = Reply(attempt=1, model="m", text="t", finish_reason="stop", prompt_tokens=1, completion_tokens=1)


def asked(key: str, *, tokens: int = 10, prompt: str = "p", run_window: int = 2) -> Asked:
    request = ReserveRequest(
        request_key=key,
        prompt_sha256=prompt,
        path=RUN,
        bound=CallBound(calls=1, prompt_tokens=tokens, completion_tokens=0, nano_usd=0),
        price_version="v",
        send_within_ms=1,
        call_timeout_ms=1,
    )
    return Asked(request=request, reserve_id=f"reserve {key}", windows={TENANT: 1, RUN: run_window})


def window(state: BudgetState = BudgetState.OPEN, *, held: Amounts = NOTHING, **ceilings: int) -> Standing:
    return Standing(state=state, ceilings=Ceilings(**ceilings), spent=NOTHING, held=held)


def last(state: HoldState, *, reply: Reply | None = None, reserve_id: str = "other", prompt: str = "p") -> LastAttempt:
    return LastAttempt(hold_id=7, attempt=3, state=state, prompt_sha256=prompt, reserve_id=reserve_id, reply=reply)


def test_each_request_counts_for_those_after_it() -> None:
    standing = {1: window(), 2: window(tokens=25)}
    large, first, second = asked("large", tokens=30), asked("first"), asked("second")
    outcomes = propose([large, first, second, asked("third")], standing=standing, last={})
    assert [type(one) for one in outcomes] == [Refused, Grant, Grant, Refused]
    # The small ones fit although a larger one before them did not; the fourth sees what they hold.
    assert isinstance(outcomes[3], Refused)
    assert (outcomes[3].path, outcomes[3].held, outcomes[3].waits) == (RUN, 20, True)
    grants = [one for one in outcomes if isinstance(one, Grant)]
    assert held_by_window(grants) == {1: Amounts(calls=2, tokens=20), 2: Amounts(calls=2, tokens=20)}


def test_the_first_budget_from_the_root_that_says_no_is_named() -> None:
    standing = {1: window(BudgetState.FROZEN), 2: window(calls=0)}
    (refused,) = propose([asked("k")], standing=standing, last={})
    assert isinstance(refused, Refused)
    assert (refused.path, refused.state) == (TENANT, BudgetState.FROZEN)


def test_what_is_there_under_a_key_decides_before_any_budget() -> None:
    standing = {1: window(calls=0), 2: window(calls=0)}
    found = {
        "stored": last(HoldState.SETTLED, reply=REPLY),
        "flying": last(HoldState.SENT),
        "mine": last(HoldState.HELD, reserve_id="reserve mine"),
        "other prompt": last(HoldState.UNKNOWN, prompt="q"),
    }
    outcomes = propose([asked(key) for key in found], standing=standing, last=found)
    assert outcomes == [
        AlreadyStored(reply=REPLY),
        InFlight(attempt=3),
        Reserved(hold_id=7, request_key="mine", attempt=3),
        PromptMismatch(stored_sha256="q"),
    ]


def test_an_attempt_that_ended_without_an_answer_is_followed_by_the_next() -> None:
    standing = {1: window(), 2: window()}
    found = {"released": last(HoldState.RELEASED), "unknown": last(HoldState.UNKNOWN)}
    outcomes = propose([asked("released"), asked("unknown"), asked("new")], standing=standing, last=found)
    assert [one.attempt for one in outcomes if isinstance(one, Grant)] == [4, 4, 1]


def test_a_key_is_granted_once_in_a_group() -> None:
    standing = {1: window(), 2: window()}
    outcomes = propose([asked("k"), asked("k"), asked("k", prompt="q")], standing=standing, last={})
    assert outcomes[1:] == [InFlight(attempt=1), PromptMismatch(stored_sha256="p")]
