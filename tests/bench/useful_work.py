"""Runs the command line with a clock on its useful work: student compute and waiting for the teacher. Not loading.

    python -m tests.bench.useful_work RESULT.json run SPEC --home HOME --quiet

Work of several threads at once counts once: the useful time is the union of all intervals.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tests.bench.pipeline.processes import age_s

_Work = TypeVar("_Work", bound=Callable[..., Any])

_INTERVALS: list[tuple[str, float, float]] = []
_LOCK = threading.Lock()


def clocked(kind: str, work: _Work) -> _Work:
    """Return `work` with a note of when it began and ended."""

    @functools.wraps(work)
    def with_clock(*arguments: Any, **named: Any) -> Any:
        began_s = time.monotonic()
        try:
            return work(*arguments, **named)
        finally:
            with _LOCK:
                _INTERVALS.append((kind, began_s, time.monotonic()))

    return with_clock  # type: ignore[return-value]


def union_s(intervals: list[tuple[float, float]]) -> float:
    """Return how many seconds at least one interval covers."""
    covered_s, until_s = 0.0, float("-inf")
    for began_s, ended_s in sorted(intervals):
        covered_s += max(0.0, ended_s - max(began_s, until_s))
        until_s = max(until_s, ended_s)
    return covered_s


def put_clocks() -> None:
    """Put clocks on what computes with a student or waits for a teacher."""
    import services.selector.adapters.torch_scorer as scorer
    import services.trainer.examining as examining
    import services.trainer.parity as parity
    import services.trainer.training as training
    from services.teacher_gateway.adapters.openai_teacher import OpenAITeacher
    from services.teacher_gateway.adapters.protocol_teacher import ProtocolTeacher

    _put_clock(scorer, "score_examples", "score")
    _put_clock(training, "train_adapter", "train")
    _put_clock(examining, "answer_texts", "evaluate")
    _put_clock(examining, "mean_target_nll", "evaluate")
    _put_clock(parity, "_write", "check")
    _put_clock(parity, "_likelihoods", "check")
    _note_fresh_process(parity)
    for teacher in (OpenAITeacher, ProtocolTeacher):
        _put_clock(teacher, "complete", "teacher")


def _put_clock(owner: object, name: str, kind: str) -> None:
    setattr(owner, name, clocked(kind, getattr(owner, name)))


def _note_fresh_process(parity: Any) -> None:
    """Count the forward passes of the process that loads the exported student; its imports and loading are no useful work."""
    ask = parity._FreshProcess.answer

    def with_note(*arguments: Any, **named: Any) -> Any:
        reply = ask(*arguments, **named)
        now_s = time.monotonic()
        with _LOCK:
            _INTERVALS.append(("check", now_s - reply["computing_s"], now_s))
        return reply

    parity._FreshProcess.answer = with_note


def gaps_s(intervals: list[tuple[float, float]], *, began_s: float, ended_s: float) -> dict[str, float]:
    """Return the time that no interval covers: before the first, between them, after the last."""
    first = min((began for began, _ in intervals), default=ended_s)
    last = max((ended for _, ended in intervals), default=ended_s)
    between = max(0.0, last - first) - union_s(intervals)
    return {"before_s": first - began_s, "between_s": between, "after_s": ended_s - last}


def main() -> None:
    """Run the command and write what its time went to."""
    result, arguments = Path(sys.argv[1]), sys.argv[2:]
    put_clocks()
    from services.cli.__main__ import run

    code = run(arguments)
    # Imports before our first line count too.
    wall_s, now_s = age_s(), time.monotonic()
    kinds = sorted({kind for kind, _, _ in _INTERVALS})
    every = [(began_s, ended_s) for _, began_s, ended_s in _INTERVALS]
    document = {
        "wall_s": wall_s,
        "useful_s": union_s(every),
        **gaps_s(every, began_s=now_s - wall_s, ended_s=now_s),
        **{f"{kind}_s": union_s([(b, e) for name, b, e in _INTERVALS if name == kind]) for kind in kinds},
    }
    result.write_text(json.dumps(document))
    sys.exit(code)


if __name__ == "__main__":
    main()
