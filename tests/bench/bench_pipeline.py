"""`make bench-pipeline`: what the pipeline costs beside useful work, and how long an event takes from one service to the next.

1. `overhead_percent`: the demo, embedded: wall-clock of the whole command that is neither student compute nor waiting for
   the teacher (tests/bench/useful_work.py). Imports, loading and reference rows are overhead.
2. `event_hop_p99_ms`: real services over Kafka, MinIO and PostgreSQL, runs that need no student (random head, label-only):
   policy -> selector -> teacher_gateway -> policy, stage after stage, 10,000 facts. A hop is the time between the broker's
   timestamps of a fact and of the fact that it led to: transport, the handler with its artifacts and rows, publication.
3. `memory_growth_percent`: resident memory of these services after all facts against after the first fifth.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from baldistill.testing.tiny_student import build_tiny_student
from tests.stack.stack_home import StackHome
from tests.stack.workload import Workload

_SERVICES = ("policy", "selector", "teacher-gateway")
_STAGES = 30
_RUNS_AT_ONCE = 4
_FACTS_A_STAGE = 3


def measure_overhead(spec: Path, folder: Path) -> dict[str, float]:
    """Run a spec embedded in a new home; return seconds by kind of work."""
    result = folder / "useful.json"
    command = [sys.executable, "-m", "tests.bench.useful_work", str(result)]
    command += ["run", str(spec), "--home", str(folder / "home"), "--quiet"]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    measured: dict[str, float] = json.loads(result.read_text())
    return measured


def measure_hops(folder: Path, *, facts: int) -> tuple[list[float], float]:
    """Send facts through the real chain; return every hop in ms and the growth of memory in percent."""
    student = build_tiny_student(folder / "student")
    runs = -(-facts // (_STAGES * _FACTS_A_STAGE))
    with (
        Workload(folder / "workload", student=student) as workload,
        StackHome(folder / "stack", services=_SERVICES) as home,
    ):
        resident: list[float] = []
        submitted: list[str] = []
        for number in range(runs):
            while sum(home.stage(run_id) < _STAGES for run_id in submitted) >= _RUNS_AT_ONCE:
                time.sleep(0.2)
            submitted.append(home.submit(_chain_spec(workload, number, under=folder / "specs")))
            if number == max(1, runs // 5):
                resident.append(home.resident_mib(_SERVICES))
        _wait_for_all(home, submitted)
        resident.append(home.resident_mib(_SERVICES))
        hops = hops_ms(home.layout.servers["kafka"])
    return hops, 100 * (resident[1] / resident[0] - 1)


def _chain_spec(workload: Workload, number: int, *, under: Path) -> Path:
    return workload.spec(
        number,
        under=under,
        name=f"chain-{number}",
        stages=_STAGES,
        method={"policy": "naive", "head": "random", "tail": "duplicate"},
        target="label",
        budget={"examples": _STAGES * 2},
    )


def _wait_for_all(home: StackHome, submitted: Sequence[str]) -> None:
    """Wait until every run has gathered the batch of its last stage: no trainer runs, so they stay there."""
    for run_id in submitted:
        key = f"tenants/default/runs/{run_id}/stage-{_STAGES:02d}/batch.json"
        while home.store.find_manifest(key) is None:
            time.sleep(0.2)


def hops_ms(port: int) -> list[float]:
    """Return the time between each fact and its cause by the broker's timestamps, both within the chain."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=f"127.0.0.1:{port}", auto_offset_reset="earliest", enable_auto_commit=False
    )
    names = ("stage-planned", "examples-selected", "rationales-collected")
    partitions = [
        TopicPartition(topic, partition)
        for topic in (f"baldistill.{name}.v1" for name in names)
        for partition in consumer.partitions_for_topic(topic) or ()
    ]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    published: dict[str, int] = {}
    causes: dict[str, str] = {}
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for records in consumer.poll(timeout_ms=1000).values():
            for record in records:
                headers = _texts(record.headers)
                published.setdefault(headers["ce_id"], record.timestamp)
                if "ce_causationid" in headers:
                    causes.setdefault(headers["ce_id"], headers["ce_causationid"])
    consumer.close()
    return [float(published[effect] - published[cause]) for effect, cause in causes.items() if cause in published]


def _texts(headers: Sequence[tuple[str, bytes]]) -> Mapping[str, str]:
    return {name: value.decode() for name, value in headers}


def main() -> None:
    """Measure and print the result line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--spec", type=Path, default=Path("examples/tickets.yaml"), help="the run whose overhead is measured"
    )
    parser.add_argument("--facts", type=int, default=10_000)
    parser.add_argument("--only", choices=("overhead", "hops"), help="one of the two measurements")
    arguments = parser.parse_args()
    values: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="baldistill-bench-") as scratch:
        folder = Path(scratch)
        if arguments.only != "hops":
            work = measure_overhead(arguments.spec, folder)
            sys.stdout.write(" ".join(f"{name}={seconds:.1f}" for name, seconds in work.items()) + "\n")
            values["overhead_percent"] = round(100 * (1 - work["useful_s"] / work["wall_s"]), 1)
        if arguments.only != "overhead":
            hops, growth = measure_hops(folder, facts=arguments.facts)
            ordered = sorted(hops)
            values |= {
                "event_hop_p99_ms": ordered[int(len(ordered) * 0.99)],
                "event_hop_p50_ms": statistics.median(ordered),
                "events": len(ordered),
                "memory_growth_percent": round(growth, 1),
            }
    sys.stdout.write("RESULT " + " ".join(f"{name}={value}" for name, value in values.items()) + "\n")


if __name__ == "__main__":
    main()
