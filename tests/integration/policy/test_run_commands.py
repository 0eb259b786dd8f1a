"""Pause, resume, cancel, top-up: money first, once, whatever dies or is away in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from baldistill.errors import DependencyUnavailable, InvalidInput, NotAllowedNow, NotKnown
from baldistill.events.facts import RunCancelled, RunPaused, RunState, RunStateChanged, RunSubmitted
from services.policy.ports import Money
from services.teacher_gateway.ledger.budgets import BudgetState

if TYPE_CHECKING:
    from tests.integration.policy.conftest import Control

OPEN, FROZEN = BudgetState.OPEN, BudgetState.FROZEN
PAUSE: dict[str, Any] = {"reason": "prices went up"}
MORE: dict[str, Any] = {"add": Money(calls=5), "request_id": "r-1"}


class Killed(BaseException):
    """The process dies here."""


def at(wanted: str, error: BaseException) -> Callable[[str], None]:
    """Fail at the first step of this name."""
    left = [error]

    def before(step: str) -> None:
        if step == wanted and left:
            raise left.pop()

    return before


def away(dependency: str) -> DependencyUnavailable:
    return DependencyUnavailable(dependency=dependency, reason="a test")


def test_a_pause_freezes_the_money_of_a_run_that_has_not_asked_for_any(control: Control) -> None:
    assert control.money() is None
    run = control.commands.pause(**control.named, **PAUSE)
    assert (run.state, run.epoch, run.reason, run.announced) == (RunState.PAUSED, 2, "prices went up", True)
    assert control.money() == (FROZEN, 20)
    assert [type(fact) for fact in control.published] == [RunStateChanged, RunPaused]
    assert {fact.epoch for fact in control.published} == {2}


@pytest.mark.parametrize("command", ["pause", "cancel"])
def test_a_stop_twice_in_a_row_ends_in_the_same_state_and_tells_it_again(control: Control, command: str) -> None:
    stop = getattr(control.commands, command)
    first = stop(**control.named, reason="enough")
    told = list(control.published)
    assert stop(**control.named, reason="again") == first
    assert control.published == told * 2
    assert control.money() == (FROZEN, 20)


def test_a_resumed_run_has_its_money_and_is_replayed_under_a_new_epoch(control: Control) -> None:
    control.commands.pause(**control.named, **PAUSE)
    control.published.clear()
    run = control.commands.resume(**control.named)
    assert (run.state, run.epoch, run.reason) == (RunState.RUNNING, 3, "")
    assert control.money() == (OPEN, 20)
    assert [type(fact) for fact in control.published] == [RunStateChanged, RunSubmitted]
    told = list(control.published)
    assert control.commands.resume(**control.named) == run
    assert control.published == told * 2


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.PAUSED, RunState.BLOCKED])
def test_a_top_up_is_added_once_and_has_the_run_looked_at_again(control: Control, state: RunState) -> None:
    control.move(state=state)
    run = control.commands.resume(**control.named, **MORE)
    assert (run.state, run.epoch) == (RunState.RUNNING, 2)
    assert control.commands.resume(**control.named, **MORE) == run
    assert control.money() == (OPEN, 25)
    assert control.commands.resume(**control.named, add=Money(calls=1), request_id="r-2").epoch == 3
    assert control.money() == (OPEN, 26)


def test_the_answer_to_a_top_up_that_was_lost_is_given_again_after_the_run_ended(control: Control) -> None:
    control.commands.resume(**control.named, **MORE)
    control.move(state=RunState.COMPLETED)
    assert control.commands.resume(**control.named, **MORE).state is RunState.COMPLETED
    assert control.money() == (OPEN, 25)


@pytest.mark.parametrize("request_id", ["", "x" * 201])
def test_money_without_a_usable_request_id_is_refused(control: Control, request_id: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        control.commands.resume(**control.named, add=Money(calls=1), request_id=request_id)
    assert caught.value.field == "request_id"
    assert control.money() is None


def test_the_same_request_id_with_another_amount_is_refused(control: Control) -> None:
    control.before = at("replace", away("database"))
    with pytest.raises(DependencyUnavailable):
        control.commands.resume(**control.named, **MORE)
    with pytest.raises(NotAllowedNow, match="another amount"):
        control.commands.resume(**control.named, add=Money(calls=6), request_id="r-1")
    assert control.money() == (OPEN, 25)


@pytest.mark.parametrize("state", [RunState.COMPLETED, RunState.BUDGET_EXHAUSTED, RunState.FAILED, RunState.CANCELLED])
def test_a_run_that_is_over_takes_no_command(control: Control, state: RunState) -> None:
    before = control.move(state=state)
    for command, values in (("pause", PAUSE), ("resume", {}), ("resume", MORE)):
        with pytest.raises(NotAllowedNow, match=f"is {state.value.replace('_', ' ')}"):
            getattr(control.commands, command)(**control.named, **values)
    if state is not RunState.CANCELLED:
        with pytest.raises(NotAllowedNow):
            control.commands.cancel(**control.named, reason="")
    assert (control.row, control.money(), control.published) == (before, None, [])


def test_an_unknown_run_is_not_known(control: Control) -> None:
    with pytest.raises(NotKnown):
        control.commands.pause(tenant="other", run_id=control.named["run_id"], reason="")


@pytest.mark.parametrize(
    ("command", "step", "values"),
    [
        ("pause", "freeze", PAUSE),
        ("cancel", "freeze", PAUSE),
        ("resume", "reach", {}),
        ("resume", "add", MORE),
    ],
)
def test_nothing_is_changed_while_the_gateway_is_away(
    control: Control, command: str, step: str, values: dict[str, Any]
) -> None:
    before = control.move(state=RunState.PAUSED if command == "resume" else RunState.RUNNING)
    control.before = at(step, away("teacher gateway"))
    with pytest.raises(DependencyUnavailable):
        getattr(control.commands, command)(**control.named, **values)
    assert (control.row, control.published) == (before, [])


@pytest.mark.parametrize("command", ["pause", "cancel", "resume"])
def test_while_the_broker_is_away_a_command_holds_and_is_announced_later(control: Control, command: str) -> None:
    if command == "resume":
        control.commands.pause(**control.named, **PAUSE)
        control.published.clear()
    control.before = at("publish", away("kafka"))
    run = getattr(control.commands, command)(**control.named, **({} if command == "resume" else PAUSE))
    assert not run.announced
    assert control.money() == (OPEN if command == "resume" else FROZEN, 20)
    assert control.published == []
    (waiting,) = control.registry.unannounced(for_s=0)
    control.commands.finish(waiting)
    assert control.row.announced
    assert control.told() == RunStateChanged(**control.named, epoch=run.epoch, stage=0, state=run.state)


@pytest.mark.parametrize("step", ["thaw", "publish", "mark_announced"])
def test_a_resume_that_dies_is_finished_by_whoever_settles_it(control: Control, step: str) -> None:
    control.commands.pause(**control.named, **PAUSE)
    control.before = at(step, Killed())
    with pytest.raises(Killed):
        control.commands.resume(**control.named)
    for waiting in control.registry.unannounced(for_s=0):
        control.commands.finish(waiting)
    assert control.money() == (OPEN, 20)
    told = control.told()
    assert told is not None
    assert (told.state, told.epoch) == (control.row.state, control.row.epoch) == (RunState.RUNNING, 3)


@pytest.mark.parametrize("remedy", ["pause", "resume", "cancel"])
def test_a_stop_that_dies_before_it_is_written_down_is_mended_by_any_command(control: Control, remedy: str) -> None:
    control.before = at("replace", Killed())
    with pytest.raises(Killed):
        control.commands.pause(**control.named, **PAUSE)
    assert (control.row.state, control.money()) == (RunState.RUNNING, (FROZEN, 20))
    run = getattr(control.commands, remedy)(**control.named, **({} if remedy == "resume" else PAUSE))
    assert run.announced
    assert control.money() == (OPEN if run.state is RunState.RUNNING else FROZEN, 20)


def test_a_pause_mends_a_cancel_that_died(control: Control) -> None:
    control.commands.pause(**control.named, **PAUSE)
    control.before = at("replace", Killed())
    with pytest.raises(Killed):
        control.commands.cancel(**control.named, reason="")
    assert control.commands.pause(**control.named, **PAUSE).state is RunState.PAUSED
    assert control.commands.cancel(**control.named, reason="").state is RunState.CANCELLED
    assert isinstance(control.published[-1], RunCancelled)


def test_a_pause_that_comes_in_the_middle_of_a_resume_wins(control: Control) -> None:
    control.commands.pause(**control.named, **PAUSE)

    def pause_first(step: str) -> None:
        if step == "thaw":
            control.before = lambda _step: None
            control.commands.pause(**control.named, **PAUSE)

    control.before = pause_first
    assert control.commands.resume(**control.named).state is RunState.PAUSED
    assert control.money() == (FROZEN, 20)
    told = control.told()
    assert told is not None
    assert told.state is RunState.PAUSED


def test_a_late_announcement_does_not_stay_the_last_word(control: Control) -> None:
    def resume_first(step: str) -> None:
        if step == "publish":
            control.before = lambda _step: None
            control.commands.resume(**control.named)

    control.before = resume_first
    control.commands.pause(**control.named, **PAUSE)
    told = control.told()
    assert told is not None
    assert (told.state, told.epoch) == (RunState.RUNNING, control.row.epoch)
