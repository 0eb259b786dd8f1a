"""A part of `bench_selector` in a process of its own, so that its memory and its threads are its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.bench.selector_student import ROOT


def measured_apart(*arguments: str) -> Any:
    """Run `bench_selector` with these arguments; return what it says in JSON in its last line."""
    output = subprocess.run(
        [sys.executable, "-m", "tests.bench.bench_selector", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"OMP_WAIT_POLICY": "PASSIVE"} | os.environ,
    ).stdout
    return json.loads(output.splitlines()[-1])
