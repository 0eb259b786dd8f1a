"""policy advances a run once per fact, answers the fact that brought it here again, and no other."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from baldistill.artifacts.ports import Manifest
from baldistill.events.facts import (
    CeilingReached,
    Fact,
    RunBlocked,
    RunCompleted,
    RunFailed,
    RunPaused,
    RunState,
    RunStateChanged,
    StageFailed,
    StagePlanned,
)
from services.policy.handlers import block_run

if TYPE_CHECKING:
    from tests.unit.policy.conftest import Policy


def stages_of(facts: list[Fact]) -> list[int]:
    return [fact.stage for fact in facts if isinstance(fact, StagePlanned)]


def test_a_submitted_run_enters_its_first_stage(policy: Policy) -> None:
    (planned,) = policy.handle(policy.submit())
    assert isinstance(planned, StagePlanned)
    assert (planned.stage, planned.previous_student) == (1, None)
    assert json.loads(policy.store.read_bytes(planned.plan))["quota"] == 3


def test_a_replayed_submission_is_answered_with_the_current_stage(policy: Policy) -> None:
    submitted = policy.submit()
    policy.handle(submitted)
    assert stages_of(policy.handle(submitted)) == [1]
    policy.handle(policy.trained(1))
    assert stages_of(policy.handle(submitted)) == [2]


def test_the_fact_that_brought_a_run_here_is_answered_again_and_older_ones_are_not(policy: Policy) -> None:
    policy.handle(policy.submit())
    first = policy.trained(1)
    assert stages_of(policy.handle(first)) == [2]
    assert stages_of(policy.handle(first)) == [2]
    policy.handle(policy.trained(2))
    assert policy.handle(first) == []


def test_a_student_of_a_stage_not_begun_changes_nothing(policy: Policy) -> None:
    policy.handle(policy.submit())
    assert policy.handle(policy.trained(2)) == []


@pytest.mark.parametrize("baseline_first", [True, False])
def test_a_run_ends_when_both_last_student_and_baseline_are_measured(policy: Policy, baseline_first: bool) -> None:
    policy.handle(policy.submit())
    policy.handle(policy.trained(1))
    facts: list[Fact] = [policy.measured(), policy.trained(2)]
    first, last = facts if baseline_first else reversed(facts)
    assert policy.handle(first) == []
    outcome = policy.handle(last)
    assert [type(fact) for fact in outcome] == [RunStateChanged, RunCompleted]
    assert policy.state() is RunState.COMPLETED
    assert [type(fact) for fact in policy.handle(last)] == [RunCompleted]
    assert policy.handle(first) == []


def test_a_zero_shot_run_ends_with_its_baseline(policy: Policy) -> None:
    assert policy.handle(policy.submit(method="zero_shot_cot")) == []
    assert isinstance(policy.handle(policy.measured())[-1], RunCompleted)


def test_an_exhausted_budget_ends_the_run_after_that_stages_student(policy: Policy) -> None:
    policy.handle(policy.submit())
    policy.handle(policy.measured())
    outcome = policy.handle(policy.trained(1, budget_exhausted=True))
    assert policy.state() is RunState.BUDGET_EXHAUSTED
    assert isinstance(outcome[-1], RunCompleted)
    assert outcome[-1].state is RunState.BUDGET_EXHAUSTED


def test_methods_without_students_between_stages_advance_on_their_rationales(policy: Policy) -> None:
    policy.handle(policy.submit(method="balance_ft_cot"))
    assert stages_of(policy.handle(policy.collected(1))) == [2]
    assert policy.handle(policy.collected(2)) == []


def test_methods_with_active_selection_wait_for_the_student(policy: Policy) -> None:
    policy.handle(policy.submit())
    assert policy.handle(policy.collected(1)) == []


def test_rows_selected_before_are_no_longer_available(policy: Policy) -> None:
    (first,) = policy.handle(policy.submit())
    assert isinstance(first, StagePlanned)
    layout_key = first.plan.key.rsplit("/", 1)[0] + "/selection.json"
    policy.store.create_manifest(Manifest(key=layout_key, files={}, attributes={"selected": {"big": 2, "rare": 1}}))
    (second,) = policy.handle(policy.trained(1))
    assert isinstance(second, StagePlanned)
    domains = json.loads(policy.store.read_bytes(second.plan))["domains"]
    # 30 - floor(30 / 5) held out - 2 taken; 3 - 0 held out - 1 taken
    assert (domains["big"]["available"], domains["rare"]["available"]) == (22, 2)


def test_a_failed_stage_fails_the_run_once(policy: Policy) -> None:
    policy.handle(policy.submit())
    failed = StageFailed(**policy.identity, stage=1, service="teacher_gateway", reason="all replies were rejected")
    outcome = policy.handle(failed)
    assert isinstance(outcome[-1], RunFailed)
    assert policy.state() is RunState.FAILED
    assert policy.handle(policy.trained(1)) == []


def test_a_dead_letter_blocks_the_run(policy: Policy) -> None:
    (planned,) = policy.handle(policy.submit())
    outcome = block_run(event=planned, topic=planned.TOPIC, reason="artifact is corrupt", registry=policy.registry)
    assert isinstance(outcome[-1], RunBlocked)
    assert policy.state() is RunState.BLOCKED


def test_a_student_that_comes_while_its_run_is_blocked_moves_nothing(policy: Policy) -> None:
    (planned,) = policy.handle(policy.submit())
    block_run(event=planned, topic=planned.TOPIC, reason="artifact is corrupt", registry=policy.registry)
    assert policy.handle(policy.trained(1)) == []
    assert policy.state() is RunState.BLOCKED


def test_a_ceiling_that_is_reached_pauses_the_run_once(policy: Policy) -> None:
    policy.handle(policy.submit())
    reached = CeilingReached(**policy.identity, stage=1, reason="7 of 7 spent")
    outcome = policy.handle(reached)
    assert [type(fact) for fact in outcome] == [RunStateChanged, RunPaused]
    assert policy.state() is RunState.PAUSED
    assert policy.handle(dataclasses.replace(reached, stage=2)) == []


def test_a_ceiling_of_an_older_epoch_changes_nothing(policy: Policy) -> None:
    policy.handle(policy.submit())
    assert policy.handle(CeilingReached(**(policy.identity | {"epoch": 7}), stage=1, reason="")) == []
    assert policy.state() is RunState.RUNNING


def test_facts_of_another_epoch_change_nothing(policy: Policy) -> None:
    policy.handle(policy.submit())
    assert policy.handle(dataclasses.replace(policy.trained(1), epoch=7)) == []
