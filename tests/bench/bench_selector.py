"""`make bench-selector`: scoring candidates, against the textbook's way and the authors' way. Same student, same items.

    ours       the engine of the selector, one shard per data set
    textbook   one item at a time: `generate`, then two forward passes; float32 (DESIGN 8), by `--sides` bfloat16 too
    lookup     only by `--sides`: the textbook with transformers' own guesses (`prompt_lookup_num_tokens`), which is for one item
    reference  as the authors do: `generate` 16 items at once in bfloat16, then two passes an item

Every side is a process of its own; the sides take turns. Measured: rendering, writing, scoring. Not measured: loading and one
item to warm up. The student is the demo student, trained once on rationales and cached.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from baldistill.datasets.examples import Example
from baldistill.specs.frozen import FrozenRun
from tests.bench.peak_memory import peak_mib
from tests.bench.selector_growth import POINTS, measure_growth, measure_point
from tests.bench.selector_process import measured_apart
from tests.bench.selector_student import frozen_run, items_of, trained_student

if TYPE_CHECKING:
    from baldistill.student.loading import Student

DATA_SETS = ("r8", "gsm8k")
MEASURED = ("ours-float32", "ours-bfloat16", "textbook-float32", "reference-bfloat16")
SIDES = (*MEASURED, "textbook-bfloat16", "lookup-float32")
REFERENCE_BATCH = 16
LOOKUP_TOKENS = 7
# Of each data set's items, this share counts as chosen where choices are compared.
CHOSEN_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """ids: what the student wrote.   NLLs in nats per token, None where it wrote nothing."""

    ids: list[int]
    conditioned: float | None
    alone: float | None

    @property
    def log_ifd(self) -> float | None:
        return None if self.conditioned is None or self.alone is None else self.conditioned - self.alone


def score_by_selector(student: Student, frozen: FrozenRun, items: Sequence[Example]) -> list[Scored]:
    """Score as a selector-worker does; what was written is read off on its way."""
    import baldistill.student.generation as generation
    from services.selector.adapters.torch_scorer import score_examples

    written: list[Any] = []
    generate = generation.generate_greedily

    def remembered(*arguments: Any, **named: Any) -> Any:
        written[:] = generate(*arguments, **named)
        return list(written)

    generation.generate_greedily = remembered
    try:
        scores = score_examples(student, frozen, items, on_scored=lambda _done: None)
    finally:
        generation.generate_greedily = generate
    return [
        Scored(ids=list(own.token_ids), conditioned=one.conditioned_nll, alone=one.unconditioned_nll)
        for one, own in zip(scores, written, strict=True)
    ]


def score_plainly(
    student: Student, frozen: FrozenRun, items: Sequence[Example], *, batch: int, lookup_tokens: int | None = None
) -> list[Scored]:
    """Score with transformers alone: `generate` on `batch` items at once, then two passes an item."""
    import torch

    from baldistill.student.batching import padded_left
    from baldistill.student.rendering import render_prompt, room_for_generation

    limit = frozen.spec.selection.max_new_tokens
    room = room_for_generation(frozen, max_new_tokens=limit)
    prompts = [render_prompt(frozen, student.tokenizer, text=one.input, room_for=room)[0] for one in items]

    def mean_nll(prompt: Sequence[int], target: Sequence[int]) -> float:
        ids = torch.tensor([[*prompt, *target]])
        logits = student.model(input_ids=ids, use_cache=False, logits_to_keep=len(target) + 1).logits[0, :-1]
        return float(torch.nn.functional.cross_entropy(logits.float(), torch.tensor(list(target))))

    scored = []
    with torch.inference_mode():
        for start in range(0, len(prompts), batch):
            own = prompts[start : start + batch]
            ids, mask = padded_left(own, device=student.device)
            out = student.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=limit,
                do_sample=False,
                prompt_lookup_num_tokens=lookup_tokens,
                eos_token_id=sorted(student.stop_ids),
                pad_token_id=student.tokenizer.pad_token_id,
            )
            for prompt, row in zip(own, out[:, ids.shape[1] :].tolist(), strict=True):
                end = next((at for at, token in enumerate(row) if token in student.stop_ids), len(row))
                answer = row[:end]
                scored.append(
                    Scored(
                        ids=answer,
                        conditioned=mean_nll(prompt, answer) if answer else None,
                        alone=mean_nll([student.unconditioned_prefix_id], answer) if answer else None,
                    )
                )
    return scored


def measure(side: str, *, items: int, threads: int) -> dict[str, Any]:
    """Score the first `items` of each data set in this process."""
    from baldistill.student.base_models import resolve_base_model
    from baldistill.student.demo_student import DEMO_STUDENT
    from baldistill.student.loading import load_student
    from baldistill.student.precision import StudentDtype, begin_student_compute

    way, _, dtype = side.partition("-")
    begin_student_compute(threads=threads)
    base = resolve_base_model(DEMO_STUDENT)
    student = load_student(base, dtype=StudentDtype(dtype), adapter=trained_student(base))
    ways: dict[str, Callable[[FrozenRun, Sequence[Example]], list[Scored]]] = {
        "ours": lambda frozen, own: score_by_selector(student, frozen, own),
        "textbook": lambda frozen, own: score_plainly(student, frozen, own, batch=1),
        "lookup": lambda frozen, own: score_plainly(student, frozen, own, batch=1, lookup_tokens=LOOKUP_TOKENS),
        "reference": lambda frozen, own: score_plainly(student, frozen, own, batch=REFERENCE_BATCH),
    }
    seconds: dict[str, float] = {}
    scored: dict[str, dict[str, Any]] = {}
    for name in DATA_SETS:
        frozen = frozen_run(name, base=base, threads=threads)
        own = items_of(name, count=items)
        ways[way](frozen, own[:1])
        began = time.perf_counter()
        result = ways[way](frozen, own)
        seconds[name] = time.perf_counter() - began
        scored |= {one.example_id: asdict(score) for one, score in zip(own, result, strict=True)}
    return {"seconds": seconds, "peak_mib": peak_mib(), "scored": scored}


def main() -> None:
    """Measure all sides in turn, then print medians and the RESULT line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=64, help="of each data set")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=1, help="times that every side is measured")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(MEASURED))
    parser.add_argument(
        "--growth", action="store_true", help="instead: growth with rows at once, length and pool (5 minutes)"
    )
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--point", type=int, choices=range(len(POINTS)), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point is not None:
        print(json.dumps(measure_point(POINTS[arguments.point], threads=arguments.threads)))
        return
    if arguments.side:
        print(json.dumps(measure(arguments.side, items=arguments.items, threads=arguments.threads)))
        return
    from baldistill.student.base_models import resolve_base_model
    from baldistill.student.demo_student import DEMO_STUDENT

    trained_student(resolve_base_model(DEMO_STUDENT))
    if arguments.growth:
        grown = measure_growth(threads=arguments.threads)
        print("RESULT " + " ".join(f"{name}={value:.4g}" for name, value in grown.items()))
        return
    measured: dict[str, list[dict[str, Any]]] = {side: [] for side in arguments.sides}
    for _ in range(arguments.turns):
        for side in arguments.sides:
            measured[side].append(
                measured_apart(
                    *("--side", side, "--items", str(arguments.items), "--threads", str(arguments.threads)),
                    is_peer=not side.startswith("ours"),
                )
            )
            print(side, measured[side][-1]["seconds"], f"{measured[side][-1]['peak_mib']:.0f} MiB", flush=True)
    report(measured, items=arguments.items, threads=arguments.threads)


def report(measured: dict[str, list[dict[str, Any]]], *, items: int, threads: int) -> None:
    """Print a row per side and what the sides say of each other; a ratio needs both of its sides."""
    print(f"{items} items of each of {', '.join(DATA_SETS)}, {threads} threads; medians of {len(measured)} sides")
    median = {
        side: statistics.median(sum(one["seconds"].values()) for one in own) for side, own in measured.items() if own
    }
    for side, own in measured.items():
        tokens = sum(len(one["ids"]) for one in own[0]["scored"].values())
        parts = {name: statistics.median(one["seconds"][name] for one in own) for name in DATA_SETS}
        peak = max(one["peak_mib"] for one in own)
        print(
            f"{side:>20} {median[side]:8.1f} s  {', '.join(f'{name} {s:.1f}' for name, s in parts.items())}"
            f"  {tokens} tokens written, peak {peak:.0f} MiB"
        )
    values: dict[str, float] = {}
    for name, slow, fast in (
        ("selector_ratio_textbook_bf16", "textbook-float32", "ours-bfloat16"),
        ("selector_ratio_both_bf16", "textbook-bfloat16", "ours-bfloat16"),
        ("selector_ratio_fp32", "textbook-float32", "ours-float32"),
        ("selector_ratio_lookup_fp32", "lookup-float32", "ours-float32"),
        ("selector_ratio_reference", "reference-bfloat16", "ours-bfloat16"),
        # `dtype: auto` takes the faster type of this machine.
        ("selector_ratio_reference_fp32", "reference-bfloat16", "ours-float32"),
    ):
        if slow in median and fast in median:
            values[name] = median[slow] / median[fast]
    scored = {side: own[0]["scored"] for side, own in measured.items()}
    if {"ours-float32", "textbook-float32"} <= scored.keys():
        values |= agreement(scored["ours-float32"], scored["textbook-float32"])
    if {"ours-float32", "ours-bfloat16"} <= scored.keys():
        values |= closeness(scored["ours-bfloat16"], scored["ours-float32"])
    print("RESULT " + " ".join(f"{name}={value:.4g}" for name, value in values.items()))


def agreement(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """Return how far scores of equal answers are apart, and the share of unequal answers."""
    equal = [name for name in theirs if ours[name]["ids"] == theirs[name]["ids"] and theirs[name]["ids"]]
    errors = [
        abs(ours[name][part] - theirs[name][part]) / abs(theirs[name][part])
        for name in equal
        for part in ("conditioned", "alone")
    ]
    different = sum(ours[name]["ids"] != theirs[name]["ids"] for name in theirs) / len(theirs)
    return {"max_rel_error_fp32": max(errors, default=float("nan")), "different_answers_fp32": different}


def closeness(rounded: dict[str, Any], exact: dict[str, Any]) -> dict[str, float]:
    """Return what bfloat16 does to the order of candidates, to the choice of a quarter and to what is written."""
    ranks, shared, chosen = [], 0, 0
    for prefix in DATA_SETS:
        ifd = {
            name: (Scored(**rounded[name]).log_ifd, Scored(**exact[name]).log_ifd)
            for name in exact
            if name.startswith(prefix) and rounded[name]["ids"] and exact[name]["ids"]
        }
        ranks.append(
            statistics.correlation(*(_ranks([both[which] or 0.0 for both in ifd.values()]) for which in (0, 1)))
        )
        count = max(1, int(len(ifd) * CHOSEN_SHARE))
        best = [set(sorted(ifd, key=lambda name: -(ifd[name][which] or 0.0))[:count]) for which in (0, 1)]
        shared, chosen = shared + len(best[0] & best[1]), chosen + count
    different = sum(rounded[name]["ids"] != exact[name]["ids"] for name in exact) / len(exact)
    return {
        "spearman_bf16_fp32": statistics.mean(ranks),
        "topk_overlap_bf16_fp32": shared / chosen,
        "different_answers_bf16_fp32": different,
    }


def _ranks(values: Sequence[float]) -> list[int]:
    order = sorted(range(len(values)), key=lambda at: values[at])
    rank = {at: place for place, at in enumerate(order)}
    return [rank[at] for at in range(len(values))]


if __name__ == "__main__":
    main()
