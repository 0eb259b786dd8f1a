"""Waits of tests for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_Found = TypeVar("_Found")


def wait_until(look: Callable[[], _Found], *, timeout_s: float = 240.0) -> _Found:
    """Look until something is found and return it. Raises AssertionError after `timeout_s` seconds."""
    give_up_at = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < give_up_at, "the awaited moment did not come"
        time.sleep(0.05)
    return found
