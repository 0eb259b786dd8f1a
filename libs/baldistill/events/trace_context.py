"""The W3C trace context of the work at hand: it goes out with every fact published and every call made for it.

Carried whether or not spans are recorded here: who traces before and after us is not cut apart by us.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# https://www.w3.org/TR/trace-context/#traceparent-header, version 00; neither id is all zeros.
_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_CURRENT: ContextVar[str | None] = ContextVar("baldistill_traceparent", default=None)


def current_traceparent() -> str | None:
    """Return the `traceparent` of the work at hand, None where it belongs to no trace."""
    return _CURRENT.get()


@contextmanager
def carrying(traceparent: str | None) -> Iterator[None]:
    """Let what is published and called within, also by threads that are handed its context, belong to a trace."""
    token = _CURRENT.set(traceparent)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def sound_traceparent(text: object) -> str | None:
    """Return a `traceparent` that somebody else sent, None where it is none."""
    return text if isinstance(text, str) and _FORM.fullmatch(text) else None
