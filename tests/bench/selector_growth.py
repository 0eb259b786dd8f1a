"""How the selector's time and memory grow with rows at once, length of prompts, and size of the pool. For `bench_selector --growth`.

Every point is a process of its own, so that its peak of memory is its own. Measured as in `bench_selector`, our side alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import linear_regression

from baldistill.datasets.examples import Example
from tests.bench.peak_memory import peak_mib
from tests.bench.selector_process import measured_apart
from tests.bench.selector_student import frozen_run, items_of, trained_student

# Short answers: what grows is to be seen, not how long a student writes.
_NEW_TOKENS = 16
_ROWS_PER_SHARD = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """batch: rows at once.   words: of each text.   pool: items, scored in shards of at most 64."""

    axis: str
    batch: int = 64
    words: int = 60
    pool: int = 64

    @property
    def size(self) -> int:
        return {"batch": self.batch, "length": self.words, "pool": self.pool}[self.axis]


POINTS = (
    *(Point(axis="batch", batch=batch) for batch in (1, 4, 16, 64)),
    *(Point(axis="length", words=words) for words in (30, 60, 120, 240)),
    *(Point(axis="pool", pool=pool) for pool in (64, 128, 256, 512)),
)


def measure_point(point: Point, *, threads: int) -> dict[str, float]:
    """Score a point's items in this process. Return seconds, MiB at the peak, and tokens of the prompts."""
    from baldistill.student.base_models import resolve_base_model
    from baldistill.student.demo_student import DEMO_STUDENT
    from baldistill.student.loading import load_student
    from baldistill.student.precision import StudentDtype, begin_student_compute
    from baldistill.student.rendering import render_prompt, room_for_generation
    from services.selector.adapters.torch_scorer import score_examples

    begin_student_compute(threads=threads)
    base = resolve_base_model(DEMO_STUDENT)
    student = load_student(base, dtype=StudentDtype.FLOAT32, adapter=trained_student(base))
    frozen = frozen_run("r8", base=base, threads=threads)
    spec = frozen.spec
    frozen = frozen.model_copy(
        update={
            "spec": spec.model_copy(
                update={
                    "selection": spec.selection.model_copy(update={"max_new_tokens": _NEW_TOKENS}),
                    "evaluation": spec.evaluation.model_copy(update={"batch_size": point.batch}),
                }
            )
        }
    )
    items = _texts_of(point)
    score_examples(student, frozen, items[:1], on_scored=lambda _done: None)
    began = time.perf_counter()
    for shard in _shards(items):
        score_examples(student, frozen, shard, on_scored=lambda _done: None)
    seconds = time.perf_counter() - began
    room = room_for_generation(frozen, max_new_tokens=_NEW_TOKENS)
    prompts = [render_prompt(frozen, student.tokenizer, text=one.input, room_for=room)[0] for one in items]
    return {"seconds": seconds, "peak_mib": peak_mib(), "prompt_tokens": float(sum(map(len, prompts)))}


def measure_growth(*, threads: int) -> dict[str, float]:
    """Measure all points and print them. Return the exponent of each axis, and the growth of the peak with the pool in MiB."""
    measured: list[dict[str, float]] = []
    for place, point in enumerate(POINTS):
        measured.append(measured_apart("--point", str(place), "--threads", str(threads)))
        told = "  ".join(f"{name} {value:.1f}" for name, value in measured[-1].items())
        print(f"{point.axis:>6} {point.size:>4}  {told}", flush=True)
    values = {f"{axis}_exponent": _exponent(axis, measured) for axis in ("batch", "length", "pool")}
    pool = [one["peak_mib"] for point, one in zip(POINTS, measured, strict=True) if point.axis == "pool"]
    return values | {"pool_peak_growth_mib": pool[-1] - pool[0]}


def _exponent(axis: str, measured: Sequence[dict[str, float]]) -> float:
    """Return the slope of log seconds over log size; prompts are sized by their tokens, which words only roughly are."""
    own = [(point, one) for point, one in zip(POINTS, measured, strict=True) if point.axis == axis]
    sizes = [one["prompt_tokens"] if axis == "length" else point.size for point, one in own]
    return linear_regression([math.log(size) for size in sizes], [math.log(one["seconds"]) for _, one in own]).slope


def _texts_of(point: Point) -> list[Example]:
    """Return items of about equal length: r8's texts, one after the other, cut into pieces of so many words."""
    words = [word for one in items_of("r8", count=2000) for word in one.input.split()]
    pieces = [words[at * point.words : (at + 1) * point.words] for at in range(point.pool)]
    assert len(pieces[-1]) == point.words
    template = items_of("r8", count=1)[0]
    return [
        replace(template, example_id=f"piece-{number}", input=" ".join(piece)) for number, piece in enumerate(pieces)
    ]


def _shards(items: Sequence[Example]) -> Iterator[Sequence[Example]]:
    for start in range(0, len(items), _ROWS_PER_SHARD):
        yield items[start : start + _ROWS_PER_SHARD]
