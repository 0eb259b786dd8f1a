"""`python -m services.trainer.torchrun_job`: one training by several processes of this machine, under torchrun (ADR 43).

A job's process like `job_process`, and torchrun's agent: it starts the processes (`torchrun_worker`), passes SIGTERM on to
them, and ends all where one ends badly. They write their progress and last word to its standard output, which they inherit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from baldistill.jobs.process_main import EXIT_CODES, die_with
from baldistill.jobs.process_work import is_disruption
from baldistill.runtime.launching import Job
from baldistill.telemetry.logs import configure_logging
from services.trainer.job_process import JobProcessSettings
from services.trainer.several_processes import processes_of

_WORKER = "services.trainer.torchrun_worker"


def main(arguments: Sequence[str], *, worker: str = _WORKER) -> int:
    """Have the job done by processes of the module `worker`, and return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--job", type=Job.from_json, required=True)
    options = parser.parse_args(arguments)
    die_with(options.parent)
    configure_logging(service="trainer-job")
    return _run_agent(options.job, worker=worker, processes=_processes(options.job))


def _processes(job: Job) -> int:
    from baldistill.artifacts.opening import artifact_store

    settings = JobProcessSettings()
    with artifact_store(settings.store, folder=settings.artifacts_folder) as store:
        return processes_of(job, store=store)


def _run_agent(job: Job, *, worker: str, processes: int) -> int:
    # Deferred, so that the process is bound to its parent before seconds of imports.
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    # All on one machine: nothing depends on what its name resolves to.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    command = ["--standalone", "--local-addr", "localhost", "--nproc-per-node", str(processes), "-m", worker]
    command += ["--parent", str(os.getpid()), "--job", job.to_json()]
    try:
        run(parse_args(command))  # type: ignore[no-untyped-call]
    except SignalException:
        return EXIT_CODES["stopped"]
    except ChildFailedError as error:
        word = word_for({rank: failure.exitcode for rank, failure in error.failures.items()})
        if word is not None:
            os.write(1, (json.dumps(word) + "\n").encode())
        return EXIT_CODES["retryable"]
    return EXIT_CODES["done"]


def word_for(codes: Mapping[int, int]) -> Mapping[str, str] | None:
    """Return what is to be said for processes that could not say it themselves; None where all did."""
    silent = {rank: code for rank, code in codes.items() if code not in EXIT_CODES.values()}
    if not silent:
        return None
    if _all_disrupted(silent.values()):
        return {"how": "stopped"}
    ends = ", ".join(f"process {rank} with code {code}" for rank, code in sorted(silent.items()))
    return {"how": "retryable", "error": "JobCrashed", "reason": f"of several processes ended: {ends}"}


def _all_disrupted(codes: Iterable[int]) -> bool:
    return all(is_disruption(code) for code in codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
