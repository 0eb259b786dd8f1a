"""`baldistill run`: one run from spec to student, resumed by itself."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from baldistill.runtime.progress import always
from baldistill.specs.loading import blaming_spec, load_runspec
from services.cli.home import DEFAULT_HOME, Home, HomeOption, JsonOption
from services.cli.logs import logging_to
from services.cli.output import EXIT_CODES, MESSAGES, print_json
from services.cli.planning import SpecArgument, priced_plan, print_plan
from services.cli.progress import RunProgress
from services.cli.reporting.builder import build_report
from services.cli.reporting.markdown import report_markdown
from services.cli.reporting.terminal import print_report
from services.policy.ports import RunRecord
from services.policy.submission import Proposal

# As long as a person looks at a bar that stands still.
EMBEDDED_PATIENCE_S = 60.0


def run(
    spec: SpecArgument,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the report at the end.")] = False,
    patience: Annotated[
        float,
        typer.Option(
            "--patience",
            min=0,
            metavar="SECONDS",
            help="How long the teacher or the disk may be away before the command ends.",
        ),
    ] = EMBEDDED_PATIENCE_S,
) -> None:
    """Run a spec to its end and report; a run that was stopped or killed goes on where it was.

    Example: baldistill run examples/tickets.yaml

    Exit codes: 0 completed, 3 budget exhausted (the student is trained on what there is), 4 waiting for a person, 1 failed,
    130 stopped by Ctrl-C. What was paid is never paid again.
    """
    loaded = load_runspec(spec)
    with Home(home) as opened:
        with nullcontext() if quiet else MESSAGES.status("Looking up data set and base model"):
            priced = priced_plan(loaded, home=opened, spec_path=spec)
        if not quiet and not as_json:
            print_plan(priced, domains=False)
        record = work_on_run(
            priced.proposal, home=opened, spec_path=spec, quiet=quiet, patience=timedelta(seconds=patience)
        )
        report = build_report(record, home=opened)
        _keep(report_markdown(report), home=opened, record=record)
        if as_json:
            print_json(report.to_json())
        else:
            print_report(report)
    if record.reason:
        MESSAGES.print(f"error: {record.reason}", markup=False, soft_wrap=True)
    raise typer.Exit(EXIT_CODES[record.state])


def work_on_run(proposal: Proposal, *, home: Home, spec_path: Path, quiet: bool, patience: timedelta) -> RunRecord:
    """Work on a run until nothing more is to be done; one that is over is only looked up. Raises what `work_on` raises."""
    # Deferred: torch takes seconds to import.
    from services.embedded import EmbeddedSystem
    from services.trainer.composition import embedded_processes

    with (
        logging_to(home.layout.logs / f"{proposal.frozen.run_id}.jsonl"),
        RunProgress(proposal, store=home.store, quiet=quiet) as shown,
    ):
        system = EmbeddedSystem(
            store=home.store,
            engine=home.engine,
            locks=home.layout.locks,
            progress=shown.on_progress,
            patience=patience,
            together=embedded_processes(
                artifacts=home.layout.artifacts, logs=home.layout.logs, progress=always(shown.on_progress)
            ),
        )
        with system:
            with blaming_spec(spec_path):
                system.gateway.preflight(proposal.frozen)
            return system.work_on(proposal, on_fact=shown.on_fact)


def _keep(markdown: str, *, home: Home, record: RunRecord) -> None:
    path = home.layout.root / "reports" / f"{record.run_id}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(markdown, encoding="utf-8")
    MESSAGES.print(f"Report: {path}", soft_wrap=True)
