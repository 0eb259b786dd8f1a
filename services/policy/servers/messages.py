"""policy's values as messages, and back."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from baldistill.events.facts import ProgressReported, RunState
from baldistill.tasks.bounds import NOTHING, CallBound
from baldistill.v1 import artifacts_pb2, events_pb2, policy_pb2
from services.policy.letters import KeptLetter
from services.policy.ports import RunRecord
from services.policy.preview import StageBound
from services.policy.pricing import PricedPlan
from services.policy.tenants import Tenant, Token


def run_message(record: RunRecord, *, stages: int) -> policy_pb2.Run:
    """Return a run. stages: K."""
    spec = record.spec
    return policy_pb2.Run(
        tenant=record.tenant,
        run_id=record.run_id,
        name=record.name,
        spec=artifacts_pb2.ArtifactRef(key=spec.key, sha256=spec.sha256, size_bytes=spec.size_bytes, rows=spec.rows),
        state=state_number(record.state),
        epoch=record.epoch,
        stage=record.stage,
        stages=stages,
        baseline_evaluated=record.baseline_evaluated,
        budget_exhausted=record.budget_exhausted,
        reason=record.reason,
        submit_time=timestamp(record.created_at),
    )


def state_number(state: RunState) -> events_pb2.RunState.ValueType:
    """Return a state's number on the wire."""
    return events_pb2.RunState.Value(f"RUN_STATE_{state.name}")


def state_of(number: int) -> RunState | None:
    """Return the state of a number; None for one that means nothing here."""
    named = events_pb2.RunState.DESCRIPTOR.values_by_number.get(number)
    return None if named is None or number == 0 else RunState[named.name.removeprefix("RUN_STATE_")]


def progress_message(fact: ProgressReported) -> events_pb2.ProgressReported:
    """Return progress as its event says it."""
    return events_pb2.ProgressReported(
        tenant=fact.tenant,
        run_id=fact.run_id,
        epoch=fact.epoch,
        stage=fact.stage,
        step=fact.step,
        done=fact.done,
        total=fact.total,
        unit=fact.unit,
    )


def preview_message(priced: PricedPlan) -> policy_pb2.PreviewPlanResponse:
    """Return a plan with its bounds."""
    stages = [
        policy_pb2.StagePreview(
            stage=plan.stage,
            quota=plan.quota,
            pooled=plan.pooled,
            domains=[
                policy_pb2.DomainPreview(
                    domain=name,
                    required=domain.required,
                    available=domain.available,
                    select=domain.select,
                    deficit=domain.deficit,
                )
                for name, domain in sorted(plan.domains.items())
            ],
            bound=_bound(bound),
        )
        for plan, bound in zip(priced.proposal.plans, priced.bounds, strict=True)
    ]
    total = sum((bound.total for bound in priced.bounds), NOTHING)
    return policy_pb2.PreviewPlanResponse(stages=stages, bound=_usage(total))


def tenant_message(tenant: Tenant) -> policy_pb2.Tenant:
    """Return a tenant with its tokens, by name."""
    return policy_pb2.Tenant(
        name=tenant.name,
        max_active_runs=tenant.max_active_runs or 0,
        create_time=timestamp(tenant.created_at),
        tokens=[token_message(token) for token in tenant.tokens],
    )


def token_message(token: Token) -> policy_pb2.Token:
    """Return what may be told of a token."""
    return policy_pb2.Token(
        tenant=token.tenant,
        name=token.name,
        is_admin=token.is_admin,
        create_time=timestamp(token.created_at),
        expire_time=timestamp(token.expires_at),
        revoke_time=timestamp(token.revoked_at),
    )


def letter_message(letter: KeptLetter, *, whole: bool) -> policy_pb2.DeadLetter:
    """Return a dead letter; headers and bytes where it is asked for alone."""
    message = policy_pb2.DeadLetter(
        letter_id=letter.letter_id,
        topic=letter.message.topic,
        tenant=letter.tenant,
        run_id=letter.run_id,
        epoch=letter.epoch,
        stage=letter.stage,
        group=letter.group,
        reason=letter.reason,
        error=letter.error,
        attempts=letter.attempts,
        first_seen_time=timestamp(letter.first_seen_at),
        replay_time=timestamp(letter.replayed_at),
        replayed_by=letter.replayed_by,
    )
    if whole:
        message.value = letter.message.value
        for name, value in sorted(letter.message.headers.items()):
            message.headers.add(name=name, value=value)
    return message


def timestamp(at: datetime | None) -> Timestamp | None:
    """Return a time on the wire, unset for None."""
    if at is None:
        return None
    message = Timestamp()
    message.FromDatetime(at.astimezone(UTC))
    return message


def time_of(message: Timestamp) -> datetime:
    """Return an aware time."""
    return message.ToDatetime(tzinfo=UTC)


def _bound(bound: StageBound) -> policy_pb2.UsageBound:
    return _usage(bound.total)


def _usage(bound: CallBound) -> policy_pb2.UsageBound:
    return policy_pb2.UsageBound(calls=bound.calls, tokens=bound.tokens, nano_usd=bound.nano_usd)
