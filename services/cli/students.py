"""`baldistill student`: ask a student, or take it away as a standard PEFT folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from baldistill.errors import InvalidInput
from baldistill.specs.frozen import FrozenRun, load_frozen_run
from services.cli.home import DEFAULT_HOME, Home, HomeOption, JsonOption, TenantOption
from services.cli.output import MESSAGES, RESULTS, print_json
from services.cli.runs import RunArgument, find_run

student_app = typer.Typer(help="Ask a student, or export it.", no_args_is_help=True)

StageOption = Annotated[int | None, typer.Option("--stage", min=1, help="Stage of the student; default: the newest.")]


@student_app.command()
def predict(
    name: RunArgument,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Inputs; - or none: one a line.")
    ] = None,
    stage: StageOption = None,
    home: HomeOption = DEFAULT_HOME,
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Answer texts with a run's student.

    Examples:  baldistill student predict tickets-demo "I was charged twice"  |  ... predict tickets-demo < texts.txt
    """
    inputs = texts if texts and texts != ["-"] else [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not inputs:
        raise InvalidInput("no text given: name one, or give one a line on standard input", field="TEXT")
    # Deferred: torch takes seconds to import.
    from services.trainer.export import predict as answer_with

    with Home(home) as opened:
        record = find_run(opened, tenant=tenant, name=name)
        frozen = load_frozen_run(opened.store, record.spec)
        answers = answer_with(opened.store, frozen, stage=_stage(opened, frozen, stage), texts=inputs)
    if as_json:
        print_json(
            [{"input": text, "answer": one.answer, "text": one.text} for text, one in zip(inputs, answers, strict=True)]
        )
        return
    table = Table("answer", "text")
    for text, one in zip(inputs, answers, strict=True):
        table.add_row(one.answer, text)
    RESULTS.print(table)


@student_app.command()
def export(
    name: RunArgument,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write; must not exist yet.")],
    stage: StageOption = None,
    check: Annotated[
        int, typer.Option("--check", min=0, help="Test items that a fresh process must answer as the student does.")
    ] = 50,
    home: HomeOption = DEFAULT_HOME,
    tenant: TenantOption = "default",
) -> None:
    """Write a student as a PEFT folder with tokenizer and model card; `PeftModel.from_pretrained` loads it.

    Before the folder appears, it is loaded by a fresh process: the same greedy tokens in float32 on 50 test items, and
    the same likelihood in bfloat16 up to 0.02 nats.
    """
    from services.trainer.export import export_student

    with Home(home) as opened:
        record = find_run(opened, tenant=tenant, name=name)
        frozen = load_frozen_run(opened.store, record.spec)
        written = export_student(
            opened.store, frozen, stage=_stage(opened, frozen, stage), folder=folder, checked_items=check
        )
    MESSAGES.print(f"Student: {written}", soft_wrap=True)


def _stage(home: Home, frozen: FrozenRun, wanted: int | None) -> int:
    from services.trainer.export import trained_stages

    trained = trained_stages(home.store, frozen)
    if not trained:
        raise InvalidInput(f"run {frozen.spec.name} has no student yet; see `baldistill status {frozen.spec.name}`")
    return wanted or trained[-1]
