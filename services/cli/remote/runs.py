"""Runs at an endpoint: `submit`, `pause`, `resume`, `cancel`, and what `status` shows of them."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Annotated

import typer

from baldistill.specs.loading import blaming_spec, load_runspec
from baldistill.tasks.bounds import ceiling_nano_usd
from baldistill.v1 import policy_pb2
from services.cli.home import JsonOption, TenantOption
from services.cli.output import EXIT_CODES, MESSAGES, RESULTS, print_json
from services.cli.planning import SpecArgument
from services.cli.remote.connection import EndpointOption, RemoteRunArgument, TlsCaOption, open_policy
from services.cli.remote.datasets import upload_where_missing
from services.cli.remote.listing import print_run, run_document, run_state
from services.cli.remote.watching import watch_to_end

ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for whoever looks at the run later.")]


def submit(
    spec: SpecArgument,
    endpoint: EndpointOption,
    ca: TlsCaOption = None,
    follow: Annotated[bool, typer.Option("--watch", "-w", help="Watch it until it ends.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Submit a spec to running services; the same spec again finds the same run.

    The data set that the spec names a file for is uploaded first where the store does not have it yet; that needs
    BALDISTILL_STORE__ENDPOINT and its keys. Exit codes with --watch: as those of `baldistill watch`.

    Example: baldistill submit examples/tickets.yaml --watch
    """
    loaded = load_runspec(spec)
    upload_where_missing(loaded, folder=spec.parent)
    with open_policy(endpoint, ca=ca) as policy:
        with blaming_spec(spec):
            answer = policy.stub.SubmitRun(policy_pb2.SubmitRunRequest(spec=spec.read_text(encoding="utf-8")))
        if as_json:
            print_json({"created": answer.created, **run_document(answer.run)})
        else:
            told = "is submitted" if answer.created else f"was submitted before and is {run_state(answer.run).value}"
            RESULTS.print(f"Run {answer.run.run_id} {told}.", soft_wrap=True)
        if follow:
            raise typer.Exit(EXIT_CODES[watch_to_end(policy, answer.run, as_json=as_json)])
    if not as_json:
        MESSAGES.print(f"Watch it: baldistill watch {answer.run.name}", soft_wrap=True)


def pause(
    name: RemoteRunArgument,
    endpoint: EndpointOption,
    tenant: TenantOption = "default",
    reason: ReasonOption = "paused by a person",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a run for now. When this returns its money is frozen: no further teacher call is made.

    Example: baldistill pause tickets-demo --reason "prices went up"
    """
    with open_policy(endpoint, ca=ca) as policy:
        run = policy.find_run(tenant=tenant, name=name)
        request = policy_pb2.PauseRunRequest(tenant=run.tenant, run_id=run.run_id, reason=reason)
        print_run(policy.stub.PauseRun(request).run, as_json=as_json)


def resume(
    name: RemoteRunArgument,
    endpoint: EndpointOption,
    tenant: TenantOption = "default",
    calls: Annotated[int, typer.Option("--add-calls", min=0, help="Calls to allow beside those allowed now.")] = 0,
    tokens: Annotated[int, typer.Option("--add-tokens", min=0, help="Tokens to allow beside those allowed now.")] = 0,
    usd: Annotated[float, typer.Option("--add-usd", min=0, help="USD to allow beside those allowed now.")] = 0.0,
    request_id: Annotated[
        str, typer.Option("--request-id", help="Names the addition: the same one again adds nothing.")
    ] = "",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a paused or blocked run go on, with more budget if asked; a running one is only topped up.

    Example: baldistill resume tickets-demo --add-calls 50
    """
    adds = bool(calls or tokens or usd)
    with open_policy(endpoint, ca=ca) as policy:
        run = policy.find_run(tenant=tenant, name=name)
        request = policy_pb2.ResumeRunRequest(
            tenant=run.tenant,
            run_id=run.run_id,
            add_calls=calls,
            add_tokens=tokens,
            add_nano_usd=ceiling_nano_usd(Decimal(str(usd))),
            # Made once for all tries of this command, so that a lost answer adds nothing twice.
            request_id=(request_id or str(uuid.uuid4())) if adds else "",
        )
        print_run(policy.stub.ResumeRun(request).run, as_json=as_json)


def cancel(
    name: RemoteRunArgument,
    endpoint: EndpointOption,
    tenant: TenantOption = "default",
    reason: ReasonOption = "cancelled by a person",
    ca: TlsCaOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """End a run for good. What it bought and trained stays; it can not be resumed."""
    with open_policy(endpoint, ca=ca) as policy:
        run = policy.find_run(tenant=tenant, name=name)
        if not yes:
            typer.confirm(f"Cancel run {run.name} for good?", abort=True)
        request = policy_pb2.CancelRunRequest(tenant=run.tenant, run_id=run.run_id, reason=reason)
        print_run(policy.stub.CancelRun(request).run, as_json=as_json)
