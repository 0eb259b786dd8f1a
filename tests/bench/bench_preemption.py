"""`make bench-preemption`: one training, killed again and again, ends with the bytes of one that nobody disturbed.

Kills alternate between SIGTERM (a checkpoint is written) and SIGKILL (at most `checkpoint_every_steps` steps are lost), at
steps and moments drawn by a seed. The trainings are real processes over a store of local files; a tiny student, so that a kill costs
the start of a process and little else.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.runtime.launching import Job, JobStopped
from baldistill.runtime.progress import always
from baldistill.testing.small_runs import RUN_ID, TENANT, SmallRun, small_examples
from baldistill.testing.tiny_student import build_tiny_student

CHECKPOINT_EVERY_STEPS = 5
_SIZES = {"billing": 20, "login": 12, "delivery": 8}
_TEST = {"billing": 2, "login": 2, "delivery": 2}
_BATCH = 4
# A kill lands where it is wanted only if a step takes longer than noticing it.
_STEP_S = 0.05
_STEPS_PER_KILL = 8
# So that no training ends before its last kill, however late that comes.
_SPARE_STEPS = 100
_STOPPED = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class Preempted:
    """What became of a training that was killed.

    undisturbed, killed: sha256 of the adapters.   repeated: most steps that one kill cost.   steps: of the training.
    """

    kills: int
    undisturbed: str
    killed: str
    repeated: int
    steps: int


def preempt(folder: Path, *, kills: int, seed: int = 1) -> Preempted:
    """Train undisturbed, then train and be killed; compare."""
    base = build_tiny_student(folder / "student")
    epochs = -(-(kills * _STEPS_PER_KILL + _SPARE_STEPS) * _BATCH // sum(_SIZES.values()))
    whole, killed = (_make_run(folder / name, base=base, epochs=epochs) for name in ("whole", "killed"))
    if (code := _start(folder / "whole", whole, step_s=0.0).wait()) != 0:
        raise RuntimeError(f"the undisturbed training ended with {code}")
    rng = random.Random(seed)
    log = folder / "killed" / "steps.txt"
    most_repeated, last_done = 0, 0
    for number in range(kills):
        process = _start(folder / "killed", killed, step_s=_STEP_S)
        wanted = last_done + rng.randint(CHECKPOINT_EVERY_STEPS + 1, _STEPS_PER_KILL)
        while (steps := _steps(log))[-1:] < [wanted]:
            if process.poll() is not None:
                raise RuntimeError(f"the training ended by itself with {process.returncode}")
            time.sleep(0.005)
        most_repeated = max(most_repeated, last_done - steps[0])
        time.sleep(rng.uniform(0, 2 * _STEP_S))
        process.send_signal(signal.SIGTERM if number % 2 == 0 else signal.SIGKILL)
        process.wait()
        last_done = _steps(log)[-1]
    if (code := _start(folder / "killed", killed, step_s=0.0).wait()) != 0:
        raise RuntimeError(f"the training that was killed ended with {code}")
    steps = _steps(log)
    return Preempted(
        kills=kills,
        undisturbed=_adapter(whole),
        killed=_adapter(killed),
        repeated=max(most_repeated, last_done - steps[0]),
        steps=steps[-1],
    )


def _make_run(folder: Path, *, base: Path, epochs: int) -> SmallRun:
    training = {
        "epochs": epochs,
        "batch_size": _BATCH,
        "max_tokens": 256,
        "checkpoint_every_steps": CHECKPOINT_EVERY_STEPS,
    }
    student = {"base": str(base), "dtype": "float32", "training": training}
    run = SmallRun.create(LocalArtifactStore(folder / "store"), base=base, pool=_SIZES, test=_TEST, student=student)
    run.rationales_collected(stage=1, examples=small_examples(_SIZES, prefix="pool"))
    return run


def _start(folder: Path, run: SmallRun, *, step_s: float) -> subprocess.Popen[bytes]:
    """Start a training; each of its steps is a line of steps.txt, the first line where it began."""
    job = Job(tenant=TENANT, run_id=RUN_ID, epoch=1, stage=1, spec=run.spec)
    (folder / "steps.txt").write_text("")
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bench_preemption", "--child", str(folder), job.to_json(), str(step_s)],
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
    )


def _steps(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _adapter(run: SmallRun) -> str:
    manifest = run.store.find_manifest(run.frozen.layout.stage(1).student)
    assert manifest is not None
    return manifest.files["adapter_model"].sha256


def _train(folder: Path, job: Job, *, step_s: float) -> int:
    from services.trainer.job import run_job

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())

    with (folder / "steps.txt").open("a", buffering=1) as log:

        def note(*, step: str, done: int, total: int, unit: str) -> None:
            if step == "train":
                log.write(f"{done}\n")
                time.sleep(step_s)

        try:
            run_job(job, stop.is_set, store=LocalArtifactStore(folder / "store"), progress=always(note))
        except JobStopped:
            return _STOPPED
    return 0


def main(arguments: Sequence[str]) -> int:
    """Measure, or be a training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--child", nargs=3, metavar=("FOLDER", "JOB", "STEP_S"), help="used by the command itself")
    options = parser.parse_args(arguments)
    if options.child:
        folder, job, step_s = options.child
        return _train(Path(folder), Job.from_json(job), step_s=float(step_s))
    with tempfile.TemporaryDirectory() as scratch:
        found = preempt(Path(scratch), kills=options.kills)
    print(f"sha256 undisturbed {found.undisturbed}\nsha256 killed      {found.killed}")
    print(
        f"RESULT kills={found.kills} same_adapter={int(found.undisturbed == found.killed)} most_steps_repeated={found.repeated}"
        f" checkpoint_every_steps={CHECKPOINT_EVERY_STEPS} steps={found.steps}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
