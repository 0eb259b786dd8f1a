"""`python -m services.trainer.generate_process`: answers questions with students, one line in, one line out.

The student of the last question stays loaded. Dies with the process that started it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from baldistill.jobs.process_main import die_with
from services.trainer.job_process import JobProcessSettings


def main() -> None:
    """Answer until the questions end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    die_with(parser.parse_args().parent)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # What libraries print goes to the log.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Deferred, so that the process is bound to its parent before seconds of imports.
    from baldistill.artifacts.opening import artifact_store
    from baldistill.errors import BalDistillError
    from services.trainer.generating import LoadedStudents

    settings = JobProcessSettings()
    with artifact_store(settings.store, folder=settings.artifacts_folder) as store:
        students = LoadedStudents(store)
        for line in sys.stdin:
            try:
                said: dict[str, Any] = {"answers": students.answer(json.loads(line))}
            except BalDistillError as error:
                said = {"error": str(error)}
            answers.write(json.dumps(said) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
