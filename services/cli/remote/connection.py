"""The way to a policy service: `--endpoint` and BALDISTILL_TOKEN, and runs found by name or id."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from baldistill.errors import NotKnown
from baldistill.rpc.client import RpcClient
from baldistill.v1 import policy_pb2, policy_pb2_grpc

EndpointOption = Annotated[
    str,
    typer.Option(
        "--endpoint",
        envvar="BALDISTILL_ENDPOINT",
        help="policy's host:port, http:// or https://; the token is read from BALDISTILL_TOKEN.",
    ),
]
OptionalEndpointOption = Annotated[
    str,
    typer.Option(
        "--endpoint",
        envvar="BALDISTILL_ENDPOINT",
        help="Ask running services at host:port instead of the embedded home.",
    ),
]
TlsCaOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca", envvar="BALDISTILL_TLS_CA", help="PEM file of the CA that signed the server's certificate."
    ),
]
RemoteRunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Name or id of a run.")]
TOKEN_VARIABLE = "BALDISTILL_TOKEN"  # noqa: S105  (its name, not a token)

_LONGEST_RETRY_WAIT_S = 5.0


class Policy:
    """policy's RPCs, and what the commands share of them."""

    def __init__(self, client: RpcClient) -> None:
        self.stub = policy_pb2_grpc.PolicyServiceStub(client.channel)

    def find_run(self, *, tenant: str, name: str) -> policy_pb2.Run:
        """Return a run by its id or name. Raises NotKnown."""
        try:
            return self.stub.GetRun(policy_pb2.GetRunRequest(tenant=tenant, run_id=name)).run
        except NotKnown:
            named = next((run for run in self.all_runs(tenant=tenant) if run.name == name), None)
            if named is None:
                raise NotKnown(kind="run", name=name, remedy=f"see `baldistill runs list` of tenant {tenant}") from None
            return named

    def all_runs(self, *, tenant: str) -> Iterator[policy_pb2.Run]:
        """Yield a tenant's runs, newest first."""
        request = policy_pb2.ListRunsRequest(tenant=tenant)
        while True:
            page = self.stub.ListRuns(request)
            yield from page.runs
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def watch(self, request: policy_pb2.WatchRunRequest) -> Iterator[policy_pb2.WatchRunResponse]:
        """Yield a run's updates until it is final, or the connection is lost. Raises DependencyUnavailable."""
        yield from self.stub.WatchRun(request)

    @staticmethod
    def wait_before_retry(lost: int) -> None:
        """Sleep a little longer after each lost connection."""
        time.sleep(min(_LONGEST_RETRY_WAIT_S, 0.5 * 2**lost))


@contextmanager
def open_policy(endpoint: str, *, ca: Path | None) -> Iterator[Policy]:
    """Connect for the length of a block, with the token of the environment. Raises InvalidInput."""
    with RpcClient(endpoint=endpoint, token=os.environ.get(TOKEN_VARIABLE) or None, ca=ca) as client:
        yield Policy(client)
