"""A process that tells whether two mathematical results are equal, and nothing else: `python -m` this module SECONDS.

It reads one JSON array [truth, answer] a line and writes `true` or `false`; the first line that it writes is `"ready"`.
math-verify's own time limit is an alarm signal, which works in main threads only and which sympy's C code and long
integer arithmetic do not heed. So it is off: whoever started this process kills it (tasks.equivalence). Should that be
gone, the kernel ends this process: an alarm that nobody handles, some seconds after a question, as the argument says.
"""

from __future__ import annotations

import json
import logging
import re
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

# A tower of powers asks for all the memory there is. Beyond this the comparison fails, not the machine.
_MOST_MEMORY_BYTES = 4 * 2**30
# sympy would read p times i.
_PLAIN_PI = re.compile(r"(?<![\\A-Za-z])pi(?![A-Za-z])")


def main() -> None:
    """Serve until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
    logging.disable(logging.CRITICAL)
    _parsed("1")
    _write("ready")
    longest_s = float(sys.argv[1])
    for line in sys.stdin:
        truth, answer = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, longest_s)
        equal = _are_equal(truth, answer)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _write(equal)


def _are_equal(truth: str, answer: str) -> bool:
    from math_verify import verify

    try:
        return bool(verify(_parsed(truth), _parsed(answer), timeout_seconds=None))
    except (MemoryError, RecursionError, ArithmeticError):
        return False


@lru_cache(maxsize=256)
def _parsed(result: str) -> list[Any]:
    """Return what sympy makes of a result: as LaTeX. Plain text would be read by its last number alone."""
    from math_verify import LatexExtractionConfig, parse

    latex = _PLAIN_PI.sub(r"\\pi", result)
    return list(parse(f"${latex}$", [LatexExtractionConfig()], parsing_timeout=None))


def _write(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
