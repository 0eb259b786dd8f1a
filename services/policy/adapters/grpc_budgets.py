"""RunBudgets over the gateway's RPCs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from baldistill.errors import (
    AccessDenied,
    DependencyUnavailable,
    LimitReached,
    NotAllowedNow,
    NotKnown,
    RetryableError,
    Unauthenticated,
)
from baldistill.rpc.client import RpcClient
from baldistill.v1 import artifacts_pb2, teacher_gateway_pb2, teacher_gateway_pb2_grpc
from services.policy.ports import Money, Overtaken, RunRecord

_GATEWAY = "teacher gateway"


class GrpcRunBudgets:
    """The money of runs at a gateway. Thread-safe. deadline_s: how long a person who pauses a run waits at most."""

    def __init__(self, client: RpcClient, *, deadline_s: float = 10.0) -> None:
        self._stub = teacher_gateway_pb2_grpc.TeacherGatewayServiceStub(client.channel)
        self._deadline_s = deadline_s

    def reach(self, run: RunRecord) -> None:
        self._find(run)

    def freeze(self, run: RunRecord, *, epoch: int) -> None:
        self._set_state(run, teacher_gateway_pb2.BUDGET_STATE_FROZEN, epoch=epoch)

    def thaw(self, run: RunRecord, *, epoch: int) -> None:
        self._set_state(run, teacher_gateway_pb2.BUDGET_STATE_OPEN, epoch=epoch)

    def is_frozen_later(self, run: RunRecord) -> bool:
        budget = self._find(run)
        frozen = teacher_gateway_pb2.BUDGET_STATE_FROZEN
        return budget is not None and budget.state == frozen and budget.fence > run.epoch

    def add(self, run: RunRecord, money: Money, *, request_id: str) -> None:
        added = teacher_gateway_pb2.Usage(**asdict(money))
        request = teacher_gateway_pb2.UpdateBudgetRequest(
            path=_path(run), run_spec=_spec(run), add=added, request_id=request_id
        )
        with _explained():
            self._stub.UpdateBudget(request, timeout=self._deadline_s)

    def _find(self, run: RunRecord) -> teacher_gateway_pb2.Budget | None:
        request = teacher_gateway_pb2.GetBudgetRequest(path=_path(run))
        with _explained():
            try:
                return self._stub.GetBudget(request, timeout=self._deadline_s).budget
            # It answers: there is just no budget yet.
            except (NotKnown, NotAllowedNow):
                return None

    def _set_state(self, run: RunRecord, state: teacher_gateway_pb2.BudgetState.ValueType, *, epoch: int) -> None:
        request = teacher_gateway_pb2.UpdateBudgetRequest(
            path=_path(run), run_spec=_spec(run), state=state, fence=epoch
        )
        with _explained():
            try:
                self._stub.UpdateBudget(request, timeout=self._deadline_s)
            except NotAllowedNow as error:
                raise Overtaken(run_id=run.run_id) from error


@contextmanager
def _explained() -> Iterator[None]:
    """Tell a person who commands a run what is away, instead of what policy asked whom."""
    try:
        yield
    except (Unauthenticated, AccessDenied) as error:
        raise DependencyUnavailable(
            dependency=_GATEWAY, reason=f"it refuses policy's own token (gateway.token): {error}"
        ) from error
    except LimitReached:
        raise
    except RetryableError as error:
        raise DependencyUnavailable(
            dependency=_GATEWAY, reason=f"{error}; the run was not changed, give the same command again"
        ) from error


def _path(run: RunRecord) -> teacher_gateway_pb2.BudgetPath:
    return teacher_gateway_pb2.BudgetPath(tenant=run.tenant, run_id=run.run_id)


def _spec(run: RunRecord) -> artifacts_pb2.ArtifactRef:
    spec = run.spec
    return artifacts_pb2.ArtifactRef(key=spec.key, sha256=spec.sha256, size_bytes=spec.size_bytes, rows=spec.rows)
