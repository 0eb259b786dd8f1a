"""The pipeline benchmark's clocks are on functions that are there; its figures are for `make bench-pipeline` to say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_what_counts_as_useful_work_is_there_to_be_clocked() -> None:
    program = "from tests.bench.useful_work import put_clocks; put_clocks()"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
