"""policy's RPCs over a real server: whose runs are whose, what is idempotent, what a watcher sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from baldistill.errors import (
    AccessDenied,
    AlreadyThere,
    InvalidInput,
    LimitReached,
    NotAllowedNow,
    NotKnown,
    Unauthenticated,
)
from baldistill.events.facts import ProgressReported
from baldistill.v1 import events_pb2, policy_pb2
from services.policy.tenants import digest_of, new_token_text
from tests.integration.policy.served_policy import SPEC, Served, eventually, submit


def test_a_submitted_run_is_announced_and_submitted_again_it_is_found(served: Served) -> None:
    stub = served.stub("acme")
    first = submit(stub)
    assert first.created
    assert (first.run.tenant, first.run.name, first.run.stages) == ("acme", "r", 2)
    assert first.run.submit_time.seconds > 1_700_000_000
    again = submit(stub)
    assert not again.created
    assert again.run.run_id == first.run.run_id
    assert served.told() == [first.run.run_id]
    request = policy_pb2.GetRunRequest(tenant="acme", run_id=first.run.run_id)
    eventually(lambda: stub.GetRun(request).run.stage == 1)
    with pytest.raises(InvalidInput, match=r"budget\.examples was 6, now 7"):
        submit(stub, budget={"examples": 7})


def test_a_spec_that_cannot_work_is_refused_by_its_field(served: Served) -> None:
    stub = served.stub("acme")
    for text, told in (
        ("name: [", "not valid YAML"),
        ("- a list", "not a mapping"),
        (json.dumps(SPEC | {"stages": 0}), "stages"),
        (json.dumps(SPEC | {"dataset": {"name": "gone"}}), "'gone' is not imported"),
        ("\x00", "not valid YAML"),
    ):
        with pytest.raises(InvalidInput, match=told):
            stub.SubmitRun(policy_pb2.SubmitRunRequest(spec=text))
        with pytest.raises(InvalidInput, match=told):
            stub.PreviewPlan(policy_pb2.PreviewPlanRequest(spec=text))
    assert not stub.ListRuns(policy_pb2.ListRunsRequest(tenant="acme")).runs


def test_a_preview_counts_what_a_spec_asks_for_and_changes_nothing(served: Served) -> None:
    stub = served.stub("acme")
    preview = stub.PreviewPlan(policy_pb2.PreviewPlanRequest(spec=json.dumps(SPEC)))
    assert [(stage.stage, stage.quota) for stage in preview.stages] == [(1, 3), (2, 3)]
    assert [domain.domain for domain in preview.stages[0].domains] == ["a", "b"]
    assert preview.bound.calls == 6
    assert preview.bound.tokens > 0
    assert not stub.ListRuns(policy_pb2.ListRunsRequest(tenant="acme")).runs


def test_a_tenant_has_no_more_unfinished_runs_than_its_limit(served: Served) -> None:
    stub = served.stub("acme")
    first = submit(stub, name="r-1").run
    submit(stub, name="r-2")
    with pytest.raises(LimitReached, match="2 unfinished runs and may have 2 at once"):
        submit(stub, name="r-3")
    stub.CancelRun(policy_pb2.CancelRunRequest(tenant="acme", run_id=first.run_id))
    assert submit(stub, name="r-3").created


def test_nobody_learns_of_anothers_runs(served: Served) -> None:
    run = submit(served.stub("acme")).run
    stranger, named = served.stub("other"), {"tenant": "acme", "run_id": run.run_id}
    absent = {"tenant": "acme", "run_id": "nothing"}

    def answers(values: dict[str, Any]) -> list[str]:
        calls: list[Callable[[], object]] = [
            lambda: stranger.GetRun(policy_pb2.GetRunRequest(**values)),
            lambda: stranger.PauseRun(policy_pb2.PauseRunRequest(**values)),
            lambda: stranger.ResumeRun(policy_pb2.ResumeRunRequest(**values)),
            lambda: stranger.CancelRun(policy_pb2.CancelRunRequest(**values)),
            lambda: list(stranger.WatchRun(policy_pb2.WatchRunRequest(**values))),
        ]
        told = []
        for call in calls:
            with pytest.raises(NotKnown) as caught:
                call()
            told.append(str(caught.value).replace(values["run_id"], "RUN"))
        return told

    assert answers(named) == answers(absent)
    with pytest.raises(AccessDenied):
        stranger.ListRuns(policy_pb2.ListRunsRequest(tenant="acme"))
    with pytest.raises(AccessDenied):
        submit(stranger, tenant="acme", name="mine")
    admin = served.stub("other", is_admin=True)
    assert admin.GetRun(policy_pb2.GetRunRequest(**named)).run.run_id == run.run_id


def test_without_a_good_token_nothing_is_answered_but_whom_a_token_stands_for(served: Served) -> None:
    nobody = served.stub(None)
    with pytest.raises(Unauthenticated):
        nobody.ListRuns(policy_pb2.ListRunsRequest(tenant="acme"))
    with pytest.raises(Unauthenticated):
        nobody.VerifyToken(policy_pb2.VerifyTokenRequest(token="bd_guess"))
    text = new_token_text()
    served.tenants.create_token(tenant="acme", name="ci", is_admin=False, expires_at=None, sha256=digest_of(text))
    said = nobody.VerifyToken(policy_pb2.VerifyTokenRequest(token=text))
    assert (said.tenant, said.subject, said.is_admin) == ("acme", "acme/ci", False)
    served.tenants.revoke_token(tenant="acme", name="ci")
    with pytest.raises(Unauthenticated, match="revoked"):
        nobody.VerifyToken(policy_pb2.VerifyTokenRequest(token=text))


def test_admins_make_tenants_and_tokens_and_others_do_not(served: Served) -> None:
    admin, user = served.stub("acme", is_admin=True), served.stub("acme")
    made = admin.CreateTenant(policy_pb2.CreateTenantRequest(name="new", max_active_runs=3)).tenant
    assert (made.name, made.max_active_runs) == ("new", 3)
    with pytest.raises(AlreadyThere):
        admin.CreateTenant(policy_pb2.CreateTenantRequest(name="new"))
    answer = admin.CreateToken(policy_pb2.CreateTokenRequest(tenant="new", name="ci"))
    said = user.VerifyToken(policy_pb2.VerifyTokenRequest(token=answer.text))
    assert (said.tenant, said.is_admin) == ("new", False)
    listed = {one.name: one for one in admin.ListTenants(policy_pb2.ListTenantsRequest()).tenants}
    assert set(listed) == {"acme", "new", "other"}
    assert answer.text not in str(listed)
    ended = admin.RevokeToken(policy_pb2.RevokeTokenRequest(tenant="new", name="ci")).token
    assert ended.HasField("revoke_time")
    calls: list[Callable[[], object]] = [
        lambda: user.CreateTenant(policy_pb2.CreateTenantRequest(name="mine")),
        lambda: user.ListTenants(policy_pb2.ListTenantsRequest()),
        lambda: user.CreateToken(policy_pb2.CreateTokenRequest(tenant="acme", name="more", is_admin=True)),
        lambda: user.RevokeToken(policy_pb2.RevokeTokenRequest(tenant="acme", name="t-0")),
    ]
    for call in calls:
        with pytest.raises(AccessDenied):
            call()


def test_runs_are_listed_in_pages_and_by_state(served: Served) -> None:
    stub = served.stub("other")
    names = [submit(stub, name=f"r-{number}").run.name for number in range(5)]
    paused = stub.ListRuns(policy_pb2.ListRunsRequest(tenant="other", page_size=1)).runs[0]
    stub.PauseRun(policy_pb2.PauseRunRequest(tenant="other", run_id=paused.run_id, reason="later"))
    request, seen = policy_pb2.ListRunsRequest(tenant="other", page_size=2), []
    while True:
        page = stub.ListRuns(request)
        seen += [run.name for run in page.runs]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert sorted(seen) == names
    of_state = stub.ListRuns(policy_pb2.ListRunsRequest(tenant="other", states=[events_pb2.RUN_STATE_PAUSED]))
    assert [run.run_id for run in of_state.runs] == [paused.run_id]
    for bad in (
        policy_pb2.ListRunsRequest(tenant="other", page_token="nonsense"),
        policy_pb2.ListRunsRequest(tenant="other", page_size=1001),
        policy_pb2.ListRunsRequest(tenant="other", states=[events_pb2.RUN_STATE_UNSPECIFIED]),
    ):
        with pytest.raises(InvalidInput):
            stub.ListRuns(bad)


def test_pause_resume_top_up_and_cancel_over_the_wire(served: Served) -> None:
    stub = served.stub("acme")
    run = submit(stub).run
    named: dict[str, Any] = {"tenant": "acme", "run_id": run.run_id}
    paused = stub.PauseRun(policy_pb2.PauseRunRequest(**named, reason="prices")).run
    assert (paused.state, paused.epoch, paused.reason) == (events_pb2.RUN_STATE_PAUSED, 2, "prices")
    resumed = stub.ResumeRun(policy_pb2.ResumeRunRequest(**named)).run
    assert (resumed.state, resumed.epoch) == (events_pb2.RUN_STATE_RUNNING, 3)
    more = policy_pb2.ResumeRunRequest(**named, add_calls=5, request_id="x")
    assert [stub.ResumeRun(more).run.epoch for _ in range(2)] == [4, 4]
    with pytest.raises(InvalidInput, match="request_id"):
        stub.ResumeRun(policy_pb2.ResumeRunRequest(**named, add_calls=5))
    cancelled = stub.CancelRun(policy_pb2.CancelRunRequest(**named)).run
    assert cancelled.state == events_pb2.RUN_STATE_CANCELLED
    with pytest.raises(NotAllowedNow, match="is cancelled"):
        stub.ResumeRun(policy_pb2.ResumeRunRequest(**named))


def test_a_watcher_sees_the_state_now_then_changes_and_progress_until_the_end(served: Served) -> None:
    stub = served.stub("acme")
    run = submit(stub).run
    named: dict[str, Any] = {"tenant": "acme", "run_id": run.run_id}
    updates = iter(stub.WatchRun(policy_pb2.WatchRunRequest(**named)))
    assert next(updates).run.state == events_pb2.RUN_STATE_RUNNING
    served.publish([ProgressReported(**named, epoch=1, stage=1, step="train", done=3, total=9, unit="rows")])
    while not (update := next(updates)).HasField("progress"):
        assert update.run.state == events_pb2.RUN_STATE_RUNNING
    assert (update.progress.step, update.progress.done) == ("train", 3)
    stub.CancelRun(policy_pb2.CancelRunRequest(**named))
    rest = list(updates)
    assert rest[-1].run.state == events_pb2.RUN_STATE_CANCELLED
    # Whoever comes later sees the end at once.
    late = list(stub.WatchRun(policy_pb2.WatchRunRequest(**named)))
    assert [one.run.state for one in late] == [events_pb2.RUN_STATE_CANCELLED]
    eventually(lambda: served.watchers.count() == 0)
