"""A part of `bench_selector` in a process of its own, so that its memory and its threads are its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from baldistill.runtime.thread_waits import with_short_waits
from tests.bench.peer_environment import as_it_comes
from tests.bench.selector_student import ROOT


def measured_apart(*arguments: str, is_peer: bool = False) -> Any:
    """Run `bench_selector` with these arguments; return what it says in JSON in its last line."""
    output = subprocess.run(
        [sys.executable, "-m", "tests.bench.bench_selector", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=as_it_comes(os.environ) if is_peer else with_short_waits(os.environ),
    ).stdout
    return json.loads(output.splitlines()[-1])
