"""A training by several processes of which the first waits after a step until it is stopped or killed, for tests.

WAIT_AFTER_STEP: which.   REACHED: file that then holds the waiting process's id.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from baldistill.jobs.process_main import run_job_process
from baldistill.runtime.launching import Job, ShouldStop
from baldistill.runtime.progress import ProgressSource, always
from services.trainer import torchrun_job, torchrun_worker


def work(job: Job, should_stop: ShouldStop, progress: ProgressSource) -> None:
    """Train, and wait."""

    def wait_at_step(*, step: str, done: int, total: int, unit: str) -> None:
        if step == "train" and done == int(os.environ["WAIT_AFTER_STEP"]):
            Path(os.environ["REACHED"]).write_text(f"{os.getpid()}\n")
            while not should_stop():
                time.sleep(0.01)

    torchrun_worker.work(job, should_stop, always(wait_at_step))


if __name__ == "__main__":
    if "RANK" in os.environ:
        sys.exit(run_job_process(sys.argv[1:], work))
    sys.exit(torchrun_job.main(sys.argv[1:], worker="tests.integration.trainer.waiting_processes"))
