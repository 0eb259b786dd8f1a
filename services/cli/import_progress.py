"""A progress bar with the time left, one line for each step of an import."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from services.cli.output import MESSAGES


class ImportProgress:
    """A ProgressSink that draws on standard error, and only where a person watches."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=MESSAGES,
            transient=True,
            disable=not MESSAGES.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, *, step: str, done: int, total: int, unit: str) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(f"{step} ({unit})", total=total)
        self._progress.update(self._tasks[step], completed=done, total=total)
