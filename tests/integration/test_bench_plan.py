"""The planning benchmark runs and prints its figures; what they are is for `make bench-plan` to say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_ends_with_its_result_line() -> None:
    command = [
        sys.executable,
        "-m",
        "tests.bench.bench_plan",
        "--sizes",
        "2000",
        "4000",
        "--domains",
        "20",
        "--repeats",
        "1",
    ]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    number = r"-?\d+(\.\d+)?"
    last = output.splitlines()[-1]
    assert re.fullmatch(rf"RESULT rows_per_s={number} growth_exponent={number} peak_mib={number}", last)
