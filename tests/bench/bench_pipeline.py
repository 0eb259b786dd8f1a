"""`make bench-pipeline`: what the pipeline costs beside useful work, and how long an event takes from one service to the next.

1. `overhead_percent`: the demo, embedded: wall-clock of the whole command that is neither student compute nor waiting for
   the teacher (tests/bench/useful_work.py). Imports, loading and reference rows are overhead.
2. `same_artifacts`: the demo by `baldistill submit --watch` on the local stack: files with the sha256 of the embedded run's,
   of how many (plans, scores, selections, annotations, batches, metrics, adapters).
3. `event_hop_p99_ms`: the event chain without student compute (tests/bench/pipeline/chain.py), first one run at a time, then
   several at once, which have the processors to share. `memory_growth_percent`: of these services, over the second half.
4. Only where asked for (`--only memory`): the same in eight shares, resident MiB after each; whether memory levels off.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.pipeline.chain import measure_chain, measure_memory
from tests.bench.pipeline.whole_runs import run_embedded, run_on_stack, taken_on

_MEASUREMENTS = ("overhead", "stack", "hops")
_MEMORY = "memory"
_SHARES = 8


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def compare_whole_runs(spec: Path, folder: Path, *, on_stack: bool) -> dict[str, Any]:
    """Measure the run embedded and, if wanted, compare it with the same on the stack."""
    twin = run_embedded(spec, folder)
    _say("embedded", {name: f"{seconds:.1f}" for name, seconds in twin.seconds.items()})
    values: dict[str, Any] = {"overhead_percent": round(twin.overhead_percent, 1)}
    if on_stack:
        there = run_on_stack(spec, folder, twin=twin)
        for (manifest, role), sha256 in sorted(taken_on(there.files).items()):
            _say(f"{manifest} {role}", {"embedded": twin.files.get((manifest, role), "-")[:16], "stack": sha256[:16]})
        if there.differing:
            sys.stdout.write(f"other bytes: {', '.join(there.differing)}\n")
        total = len(twin.files.keys() | there.files.keys())
        values |= {
            "same_artifacts": f"{total - len(there.differing)}/{total}",
            "stack_wall_s": round(there.wall_s),
        }
    return values


def measure_hops(folder: Path, *, facts: int, at_once: Sequence[int]) -> dict[str, Any]:
    """Measure the chain; the first of `at_once` gives the figure that has a goal."""
    chain = measure_chain(folder, facts=facts, at_once=at_once)
    for number, hops in chain.hops_ms.items():
        spread = {f"p{percent}_ms": percentile(hops, percent) for percent in (50, 90, 99)}
        _say(f"{number} at once", {"hops": len(hops), **spread, "max_ms": max(hops)})
        used = chain.processor_ms[number]
        _say(
            "  processor ms per hop",
            {name: f"{each:.1f}" for name, each in used.items()} | {"all": f"{sum(used.values()):.1f}"},
        )
    for name, (before, after) in chain.resident_mib.items():
        _say(f"{name} resident MiB", {"before": f"{before:.0f}", "after": f"{after:.0f}"})
    first, *others = at_once
    values: dict[str, Any] = {
        "event_hop_p99_ms": percentile(chain.hops_ms[first], 99),
        "event_hop_p50_ms": statistics.median(chain.hops_ms[first]),
    }
    values |= {f"event_hop_p99_ms_{number}_runs": percentile(chain.hops_ms[number], 99) for number in others}
    values |= {f"event_hop_p50_ms_{number}_runs": statistics.median(chain.hops_ms[number]) for number in others}
    values["events"] = sum(map(len, chain.hops_ms.values()))
    values["memory_growth_percent"] = round(chain.memory_growth_percent, 1)
    return values


def measure_levels(folder: Path, *, facts: int) -> dict[str, Any]:
    """Measure memory share after share; `..._last_quarter_percent` is the growth of all services over the last two of eight."""
    totals: list[float] = []
    for number, resident in enumerate(measure_memory(folder, facts=facts, shares=_SHARES)):
        totals.append(sum(resident.values()))
        _say(f"after share {number} of {_SHARES}", {name: f"{mib:.1f}" for name, mib in resident.items()})
    first, last = (100 * (totals[to] / totals[to - _SHARES // 4] - 1) for to in (_SHARES // 4, _SHARES))
    return {
        "facts": facts,
        "memory_growth_first_quarter_percent": round(first, 1),
        "memory_growth_last_quarter_percent": round(last, 1),
    }


def main() -> None:
    """Measure and print the result line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", type=Path, default=Path("examples/tickets.yaml"), help="the run of 1 and 2")
    parser.add_argument("--facts", type=int, default=10_000)
    parser.add_argument(
        "--at-once",
        type=int,
        nargs="+",
        default=[1, 4],
        metavar="RUNS",
        help="runs at work at once, one after the other",
    )
    parser.add_argument(
        "--only", choices=(*_MEASUREMENTS, _MEMORY), help="one measurement; `stack` runs the spec embedded as well"
    )
    parser.add_argument("--folder", type=Path, help="keep the embedded run here, and take the one that is here")
    arguments = parser.parse_args()
    wanted = _MEASUREMENTS if arguments.only is None else (arguments.only,)
    values: dict[str, Any] = {}
    with _folder(arguments.folder) as folder:
        if "overhead" in wanted or "stack" in wanted:
            values |= compare_whole_runs(arguments.spec, folder, on_stack="stack" in wanted)
        if "hops" in wanted:
            values |= measure_hops(folder / "chain", facts=arguments.facts, at_once=arguments.at_once)
        if _MEMORY in wanted:
            values |= measure_levels(folder / "levels", facts=arguments.facts)
    sys.stdout.write("RESULT " + " ".join(f"{name}={value}" for name, value in values.items()) + "\n")


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="baldistill-bench-") as scratch:
        yield Path(scratch)


def _say(what: str, values: dict[str, Any]) -> None:
    sys.stdout.write(f"{what}: " + " ".join(f"{name}={value}" for name, value in values.items()) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
