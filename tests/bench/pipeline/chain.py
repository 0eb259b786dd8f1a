"""The event chain without student compute: real services over Kafka, MinIO and PostgreSQL, runs that train nothing.

policy -> selector -> teacher_gateway -> policy, stage after stage: random head, label-only, tail duplicated. No trainer runs,
so every run stays at its last stage.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from baldistill.database.engine import reading
from baldistill.testing.tiny_student import build_tiny_student
from baldistill.v1 import policy_pb2, policy_pb2_grpc
from tests.bench.pipeline.hops import hops_by_run
from tests.bench.pipeline.processes import processor_s
from tests.stack.stack_home import StackHome
from tests.stack.workload import Workload

SERVICES = ("policy", "selector", "teacher-gateway")
STAGES = 30
FACTS_A_STAGE = 3
# How often the load generator looks; it shares the processors with what it measures.
_LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFigures:
    """hops_ms: by how many runs were at work at once.   resident_mib: of each service before the last share, and at the end.

    processor_ms: per hop, of each process of the stack and of the load generator, by how many runs were at work at once.
    """

    hops_ms: Mapping[int, Sequence[float]]
    resident_mib: Mapping[str, tuple[float, float]]
    processor_ms: Mapping[int, Mapping[str, float]]

    @property
    def memory_growth_percent(self) -> float:
        before, after = (sum(both[place] for both in self.resident_mib.values()) for place in (0, 1))
        return 100 * (after / before - 1)


def measure_chain(folder: Path, *, facts: int, at_once: Sequence[int]) -> ChainFigures:
    """Send `facts` facts through the chain, an equal share with each number of runs at once.

    The first run of all is not counted: it uploads the data set, and in it each process imports what it needs.
    """
    with _warm_chain(folder) as (home, load):
        share = -(-facts // (len(at_once) * STAGES * FACTS_A_STAGE))
        runs: dict[int, list[str]] = {}
        used_s: dict[int, dict[str, float]] = {}
        resident = [_resident_mib(home)]
        for number in at_once:
            before_s = _processor_s(home)
            runs[number] = load.send(share, at_once=number)
            used_s[number] = {name: seconds - before_s[name] for name, seconds in _processor_s(home).items()}
            resident.append(_resident_mib(home))
        hops = hops_by_run(home.layout.servers["kafka"])
    by_number = {number: [hop for run_id in ids for hop in hops[run_id]] for number, ids in runs.items()}
    return ChainFigures(
        hops_ms=by_number,
        # Caches fill in the first share; what grows after that grows on.
        resident_mib={name: (resident[-2][name], resident[-1][name]) for name in SERVICES},
        processor_ms={
            number: {name: 1000 * seconds / len(by_number[number]) for name, seconds in used.items()}
            for number, used in used_s.items()
        },
    )


def measure_memory(folder: Path, *, facts: int, shares: int) -> Iterator[Mapping[str, float]]:
    """Send `facts` facts in so many shares, four runs at once. Yield each service's resident MiB at the beginning and after each."""
    with _warm_chain(folder) as (home, load):
        yield _resident_mib(home)
        for _ in range(shares):
            load.send(-(-facts // (shares * STAGES * FACTS_A_STAGE)), at_once=4)
            yield _resident_mib(home)


@contextmanager
def _warm_chain(folder: Path) -> Iterator[tuple[StackHome, _Load]]:
    """Start the services and have a first run done."""
    student = build_tiny_student(folder / "student")
    with (
        Workload(folder / "workload", student=student) as workload,
        StackHome(folder / "stack", services=SERVICES) as home,
    ):
        load = _Load(home, workload, specs=folder / "specs")
        load.warm_up()
        yield home, load


class _Load:
    """Submits runs by RPC from this process: a command each would cost as much processor as the runs themselves."""

    def __init__(self, home: StackHome, workload: Workload, *, specs: Path) -> None:
        self._home = home
        self._workload = workload
        self._specs = specs
        self._submitted = 0

    def warm_up(self) -> None:
        """Have the first run done."""
        self._wait_for_batches([self._home.submit(self._next_spec())])

    def send(self, runs: int, *, at_once: int) -> list[str]:
        """Have so many runs done, so many of them at once. Return their ids."""
        run_ids: list[str] = []
        with closing(self._home.rpc()) as client:
            policy = policy_pb2_grpc.PolicyServiceStub(client.channel)
            for _ in range(runs):
                while self._at_work(run_ids) >= at_once:
                    time.sleep(_LOOK_EVERY_S)
                request = policy_pb2.SubmitRunRequest(spec=self._next_spec().read_text())
                run_ids.append(policy.SubmitRun(request).run.run_id)
        self._wait_for_batches(run_ids)
        return run_ids

    def _at_work(self, run_ids: Sequence[str]) -> int:
        with reading(self._home.engine) as connection:
            query = text("SELECT count(*) FROM runs WHERE stage < :last AND run_id = ANY(:ids)")
            return int(connection.execute(query, {"last": STAGES, "ids": list(run_ids)}).scalar_one())

    def _wait_for_batches(self, run_ids: Sequence[str]) -> None:
        """Wait until every run has gathered the batch of its last stage."""
        for run_id in run_ids:
            key = f"tenants/default/runs/{run_id}/stage-{STAGES:02d}/batch.json"
            while self._home.store.find_manifest(key) is None:
                time.sleep(_LOOK_EVERY_S)

    def _next_spec(self) -> Path:
        number = self._submitted
        self._submitted += 1
        return self._workload.spec(
            number,
            under=self._specs,
            name=f"chain-{number}",
            stages=STAGES,
            method={"policy": "naive", "head": "random", "tail": "duplicate"},
            target="label",
            budget={"examples": STAGES * 2},
        )


def _resident_mib(home: StackHome) -> dict[str, float]:
    return {name: home.resident_mib([name]) for name in SERVICES}


def _processor_s(home: StackHome) -> dict[str, float]:
    pids = {name: home.stack.services[name].pid for name in SERVICES}
    pids |= {name: server.process.pid for name, server in home.stack.servers.items()}
    used = {name: processor_s(pid) for name, pid in pids.items() if pid is not None}
    own = os.times()
    return used | {"load generator": own.user + own.system}
