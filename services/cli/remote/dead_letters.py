"""`baldistill dlq`: messages that a handler gave up on: listed, shown, replayed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.table import Table

from baldistill.v1 import policy_pb2
from services.cli.home import JsonOption
from services.cli.output import RESULTS, print_json
from services.cli.remote.connection import EndpointOption, Policy, TlsCaOption, open_policy
from services.cli.remote.listing import run_state

dlq_app = typer.Typer(help="Messages that a handler gave up on.", no_args_is_help=True)

LetterTenantOption = Annotated[str, typer.Option("--tenant", help="Whose; empty = all, for admins.")]
LetterArgument = Annotated[str, typer.Argument(metavar="LETTER", help="Its id; see `baldistill dlq list`.")]
_SHOWN_ID = 12
_SHOWN_REASON = 80


@dlq_app.callback()
def dead_letters() -> None:
    """Messages that a handler gave up on; their runs are blocked until a person looks."""


@dlq_app.command("list")
def list_letters(
    endpoint: EndpointOption,
    tenant: LetterTenantOption = "",
    everything: Annotated[bool, typer.Option("--all", help="Also those that were replayed.")] = False,
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, newest first. Those without a run could not be decoded and belong to nobody."""
    with open_policy(endpoint, ca=ca) as policy:
        letters = list(_all_letters(policy, tenant=tenant, everything=everything))
    if as_json:
        print_json([_document(one) for one in letters])
        return
    table = Table("letter", "topic", "run", "group", "tries", "reason")
    for one in letters:
        table.add_row(
            one.letter_id[:_SHOWN_ID],
            one.topic,
            one.run_id or "-",
            one.group,
            str(one.attempts),
            one.reason[:_SHOWN_REASON],
        )
    RESULTS.print(table if letters else "No dead letters.")


@dlq_app.command()
def show(
    letter: LetterArgument,
    endpoint: EndpointOption,
    tenant: LetterTenantOption = "",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a dead letter whole: why it is here, its headers and bytes."""
    with open_policy(endpoint, ca=ca) as policy:
        letter_id = _full_id(policy, letter, tenant=tenant)
        found = policy.stub.GetDeadLetter(policy_pb2.GetDeadLetterRequest(letter_id=letter_id)).letter
    document = _document(found) | {
        "headers": {header.name: header.value for header in found.headers},
        "value_hex": found.value.hex(),
    }
    if as_json:
        print_json(document)
        return
    table = Table(show_header=False, box=None)
    for key, value in document.items():
        table.add_row(key.replace("_", " "), str(value))
    RESULTS.print(table)


@dlq_app.command()
def replay(
    letter: LetterArgument,
    endpoint: EndpointOption,
    tenant: LetterTenantOption = "",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a dead letter's fact again, after what it failed of is mended; its run goes on.

    A letter that cannot be decoded cannot be replayed: `baldistill resume RUN` lets its run go on without it.
    """
    with open_policy(endpoint, ca=ca) as policy:
        letter_id = _full_id(policy, letter, tenant=tenant)
        answer = policy.stub.ReplayDeadLetter(policy_pb2.ReplayDeadLetterRequest(letter_id=letter_id))
    if as_json:
        print_json({"letter": _document(answer.letter), "run": answer.run.run_id, "state": run_state(answer.run).value})
        return
    RESULTS.print(f"Replayed; run {answer.run.name} is {run_state(answer.run).value}.", soft_wrap=True)


def _all_letters(policy: Policy, *, tenant: str, everything: bool) -> Iterator[policy_pb2.DeadLetter]:
    request = policy_pb2.ListDeadLettersRequest(tenant=tenant, include_replayed=everything)
    while True:
        page = policy.stub.ListDeadLetters(request)
        yield from page.letters
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _full_id(policy: Policy, letter: str, *, tenant: str) -> str:
    """Return the id that begins with `letter`, as the list shows it; `letter` itself where no listed one does."""
    if len(letter) > _SHOWN_ID:
        return letter
    listed = _all_letters(policy, tenant=tenant, everything=True)
    return next((one.letter_id for one in listed if one.letter_id.startswith(letter)), letter)


def _document(letter: policy_pb2.DeadLetter) -> dict[str, Any]:
    return {
        "letter_id": letter.letter_id,
        "topic": letter.topic,
        "tenant": letter.tenant or None,
        "run_id": letter.run_id or None,
        "stage": letter.stage,
        "epoch": letter.epoch,
        "group": letter.group,
        "error": letter.error,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "replayed_by": letter.replayed_by or None,
    }
