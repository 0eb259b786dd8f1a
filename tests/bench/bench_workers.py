"""`make bench-workers`: the same shards scored by one selector-worker and by two, each with one thread.

Real worker processes over Kafka, MinIO and PostgreSQL; the demo student and texts of r8. One worker and two take turns on
the same stack; each time both have loaded the student before the clock starts. A time is from the first shard's fact to the
last shard's stored scores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import rfc8785

from baldistill.artifacts.ports import ArtifactRef, ArtifactStore, Manifest
from baldistill.artifacts.schemas import EXAMPLES, StagePlan
from baldistill.artifacts.tables import store_table
from baldistill.datasets.examples import Example
from baldistill.events.facts import RunState, RunStateChanged, ScoringShardPlanned
from baldistill.events.publishing import FactPublisher
from baldistill.specs.frozen import FrozenRun
from baldistill.student.base_models import BaseModel, resolve_base_model
from baldistill.student.demo_student import DEMO_STUDENT
from baldistill.student.files import ADAPTER_CONFIG_ROLE, ADAPTER_WEIGHTS_ROLE
from tests.bench.selector_student import frozen_run, items_of
from tests.stack.stack_home import StackHome

_SECOND = "selector-worker-2"
# One for each partition, twice, so that each of two workers has work in both rounds.
_SHARDS = 16
_WARM_SHARDS = 8
_NEW_TOKENS = 32
# Seldom, and for one shard at a time: what looks has no core of its own beside two workers.
_LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class _Material:
    """What all rounds score with: a student that nobody trained, which writes to the limit."""

    base: BaseModel
    store: ArtifactStore
    student: ArtifactRef
    examples: Sequence[Example]


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8, help="a shard")
    parser.add_argument("--pairs", type=int, default=2)
    options = parser.parse_args(arguments)
    one_s: list[float] = []
    two_s: list[float] = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        StackHome(
            Path(scratch) / "stack", replicas={"selector-worker": 2}, services=["selector-worker", _SECOND]
        ) as home,
    ):
        material = _material(home.store, rows=options.rows)
        names = _names()
        # The stack began with both.
        home.stop_service(_SECOND)
        for _ in range(options.pairs):
            one_s.append(_round(home, material, names, rows=options.rows))
            home.start_service(_SECOND)
            two_s.append(_round(home, material, names, rows=options.rows))
            home.stop_service(_SECOND)
            print(f"one worker {one_s[-1]:.1f} s, two {two_s[-1]:.1f} s", flush=True)
    one, two = statistics.median(one_s), statistics.median(two_s)
    print(f"{_SHARDS} shards of {options.rows} rows, {_NEW_TOKENS} new tokens at most, 1 thread a worker")
    print(f"RESULT two_workers_ratio={two / one:.3f} one_s={one:.1f} two_s={two:.1f}")
    return 0


def _names() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"workers-{number}"


def _material(store: ArtifactStore, *, rows: int) -> _Material:
    import torch
    from safetensors.torch import save

    from baldistill.student.loading import load_trainable_base
    from baldistill.student.lora import adapter_weights, attach_fresh, canonical_adapter_config
    from baldistill.student.precision import StudentDtype

    base = resolve_base_model(DEMO_STUDENT)
    lora = frozen_run("r8", base=base, threads=1).spec.student.lora
    model = load_trainable_base(base, dtype=StudentDtype.FLOAT32).model
    adapted = attach_fresh(model, lora, base_name=base.name, rng=torch.Generator().manual_seed(1))
    folder = "tenants/default/runs/workers/stage-01/student"
    weights = save(adapter_weights(adapted), metadata={"format": "pt"})
    files = {
        ADAPTER_WEIGHTS_ROLE: store.put_bytes(folder=folder, name="adapter_model.safetensors", data=weights),
        ADAPTER_CONFIG_ROLE: store.put_bytes(
            folder=folder, name="adapter_config.json", data=canonical_adapter_config(adapted)
        ),
    }
    student = store.create_manifest(Manifest(key=f"{folder}.json", files=files))
    examples = items_of("r8", count=_SHARDS * rows)
    return _Material(base=base, store=store, student=store.manifest_ref(student), examples=examples)


def _round(home: StackHome, material: _Material, names: Iterator[str], *, rows: int) -> float:
    """Have shards scored by the workers that are there; returns the seconds. Twice before, so that each has loaded."""
    with closing(home.open_bus()) as bus:
        publish = FactPublisher(bus, source="policy")
        for _ in range(2):
            _score(material, next(names), publish, shards=_WARM_SHARDS, rows=1)
        return _score(material, next(names), publish, shards=_SHARDS, rows=rows)


def _score(material: _Material, run_id: str, publish: FactPublisher, *, shards: int, rows: int) -> float:
    frozen, planned = _planned(material, run_id, shards=shards, rows=rows)
    running = RunStateChanged(tenant=frozen.spec.tenant, run_id=run_id, epoch=1, stage=2, state=RunState.RUNNING)
    publish([running])
    begun_s = time.monotonic()
    publish(planned)
    layout = frozen.layout.stage(2)
    for shard in range(shards):
        while material.store.find_manifest(layout.score_shard(shard)) is None:
            time.sleep(_LOOK_EVERY_S)
    return time.monotonic() - begun_s


def _planned(
    material: _Material, run_id: str, *, shards: int, rows: int
) -> tuple[FrozenRun, Sequence[ScoringShardPlanned]]:
    store = material.store
    unnamed = frozen_run("r8", base=material.base, threads=1)
    selection = unnamed.spec.selection.model_copy(update={"max_new_tokens": _NEW_TOKENS, "rows_per_shard": rows})
    spec = unnamed.spec.model_copy(update={"name": run_id, "stages": 2, "selection": selection})
    frozen = unnamed.model_copy(update={"run_id": run_id, "spec": spec})
    layout = frozen.layout.stage(2)
    plan = StagePlan(stage=2, quota=1, pooled=True, domains={})
    examples = material.examples[: shards * rows]
    refs = {
        "spec": store.put_bytes(folder=frozen.layout.folder, name="spec.json", data=frozen.canonical_json()),
        "plan": store.put_bytes(folder=layout.folder, name="plan.json", data=bytes(rfc8785.dumps(plan.to_json()))),
        "candidates": store_table(
            store,
            folder=layout.folder,
            name="candidates",
            schema=EXAMPLES,
            rows=(
                {"id": one.example_id, "domain": one.domain, "input": one.input, "answer": one.answer}
                for one in examples
            ),
        ),
        "student": material.student,
    }
    return frozen, [
        ScoringShardPlanned(tenant=spec.tenant, run_id=run_id, epoch=1, stage=2, shard=shard, shards=shards, **refs)
        for shard in range(shards)
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
