"""What a person sees while a run works: a line for each fact that matters, a bar with ETA for each long step."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from baldistill.artifacts.ports import ArtifactStore
from baldistill.events.facts import (
    BaselineEvaluated,
    ExamplesSelected,
    Fact,
    RationalesCollected,
    StagePlanned,
    StudentTrained,
)
from baldistill.events.identity import event_id
from services.cli.output import MESSAGES, score
from services.cli.reporting.metrics import read_metrics
from services.policy.submission import Proposal

# Names of the steps that services report (ProgressSink) as a person reads them.
STEPS = {
    "score": "score candidates",
    "annotate": "ask the teacher: rationales",
    "synthesise": "ask the teacher: new examples",
    "train": "train",
    "evaluate": "evaluate",
}


class StepBars:
    """One bar with ETA for each long step that is under way, on standard error. Thread-safe."""

    def __init__(self, *, quiet: bool) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=MESSAGES,
            transient=True,
            disable=quiet,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def move(self, *, step: str, done: int, total: int, unit: str) -> None:
        """Move a step's bar; a finished one disappears."""
        task = self._tasks.get(step)
        if task is None:
            if done >= total:
                return
            task = self._tasks[step] = self._bars.add_task(STEPS.get(step, step), total=total, unit=unit)
        self._bars.update(task, completed=done, total=total)
        if done >= total:
            self._tasks.pop(step, None)
            self._bars.remove_task(task)


class RunProgress:
    """Draws on standard error. `on_progress` may be called from any thread, `on_fact` from one."""

    def __init__(self, proposal: Proposal, *, store: ArtifactStore, quiet: bool) -> None:
        self._proposal = proposal
        self._store = store
        self._quiet = quiet
        self._seen: set[str] = set()
        self._bars = StepBars(quiet=quiet)

    def __enter__(self) -> Self:
        self._bars.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.__exit__(kind, error, trace)

    def on_progress(self, *, step: str, done: int, total: int, unit: str) -> None:
        """Move a step's bar; a finished one disappears."""
        self._bars.move(step=step, done=done, total=total, unit=unit)

    def on_fact(self, fact: Fact) -> None:
        """Print what a fact means, once, however often it is delivered."""
        if self._quiet or event_id(fact) in self._seen:
            return
        self._seen.add(event_id(fact))
        line = self._line(fact)
        if line is not None:
            MESSAGES.print(line, markup=False, soft_wrap=True)

    def _line(self, fact: Fact) -> str | None:
        of = f"stage {fact.stage} of {self._proposal.frozen.spec.stages}"
        if isinstance(fact, StagePlanned):
            return f"{of}: {fact.plan.rows} rows planned"
        if isinstance(fact, ExamplesSelected):
            return f"{of}: {fact.selection.rows} examples selected"
        if isinstance(fact, RationalesCollected):
            ended = "; the budget is exhausted" if fact.budget_exhausted else ""
            return f"{of}: {fact.batch.rows} training rows{ended}"
        if isinstance(fact, BaselineEvaluated | StudentTrained):
            report = read_metrics(self._store, fact.metrics.key).report
            name = "zero-shot student" if fact.stage == 0 else f"student of {of}"
            metric = report.metric.value
            return (
                f"{name}: macro {metric} {score(report.macro)}, micro {score(report.micro)} over {report.items} items"
            )
        return None
