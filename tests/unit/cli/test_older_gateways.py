"""A command line that is newer than the gateway it asks."""

from __future__ import annotations

from typing import Any, NoReturn, cast

import grpc
import pytest

from baldistill.rpc.remote_errors import RemoteTooOld, error_from_status
from baldistill.v1.teacher_gateway_pb2_grpc import TeacherGatewayServiceStub
from services.cli.remote.budgets import GatewayAccess


class Unimplemented(grpc.RpcError):
    """What grpc raises for a method that a server has not."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNIMPLEMENTED

    def details(self) -> str:
        return "Method not found!"

    def trailing_metadata(self) -> tuple[Any, ...]:
        return ()


class OlderGateway:
    """Knows none of the gate's calls."""

    def GetBudgetGate(self, _request: object) -> NoReturn:  # noqa: N802  (the RPC's name)
        raise error_from_status(Unimplemented(), endpoint="gateway:50053")

    SetBudgetGate = GetBudgetGate


def test_without_a_gate_budgets_are_shown_and_a_freeze_of_all_says_what_to_do() -> None:
    access = GatewayAccess(cast("TeacherGatewayServiceStub", OlderGateway()))
    assert access.gate().is_open
    with pytest.raises(RemoteTooOld, match="older than this program: upgrade it"):
        access.freeze_all(reason="a restore")
