"""Bearer tokens: read from a call's metadata, verified, remembered for a minute, refused where in doubt."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

from baldistill.errors import Unauthenticated
from baldistill.rpc.callers import Caller

# Answered to anybody. VerifyToken is what others ask a token by: it is given the token as its request.
OPEN_METHODS = frozenset(
    {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.health.v1.Health/List",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/baldistill.v1.PolicyService/VerifyToken",
    }
)

# DESIGN 4: others cache an answer for 60 s, so a revoked token works for at most so long.
_REMEMBERED_S = 60.0
_MOST_REMEMBERED = 10_000


class TokenVerifier(Protocol):
    """Tells whom a token stands for. Thread-safe; may block for seconds."""

    def verify(self, token: str) -> Caller:
        """Return the caller. Raises Unauthenticated, or DependencyUnavailable where it cannot be known now."""


class CachingVerifier:
    """Remembers who a token stands for, so that a call costs no question. Fails closed: a refusal is never remembered,
    and once `remembered_s` seconds are over, only an answer lets the token in again. Holds digests, not tokens.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        *,
        remembered_s: float = _REMEMBERED_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._verifier = verifier
        self._remembered_s = remembered_s
        self._monotonic = monotonic
        self._known: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._lock = threading.Lock()

    def verify(self, token: str) -> Caller:
        """Return the caller. Raises Unauthenticated, DependencyUnavailable."""
        # Asked at this moment, whatever the time that the answer takes.
        now_s = self._monotonic()
        if (remembered := self.known(token)) is not None:
            return remembered
        digest = _digest(token)
        try:
            caller = self._verifier.verify(token)
        except Unauthenticated:
            self._forget(digest)
            raise
        with self._lock:
            self._known[digest] = (caller, now_s + self._remembered_s)
            self._known.move_to_end(digest)
            while len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
        return caller

    def known(self, token: str) -> Caller | None:
        """Return the caller where nobody has to be asked, at once: for event loops."""
        with self._lock:
            known = self._known.get(_digest(token))
        return known[0] if known is not None and self._monotonic() < known[1] else None

    def _forget(self, digest: bytes) -> None:
        with self._lock:
            self._known.pop(digest, None)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def bearer_token(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Return the token of `authorization: Bearer <token>`. Raises Unauthenticated."""
    for name, value in metadata or ():
        if name == "authorization":
            scheme, _, token = str(value).partition(" ")
            if scheme.lower() != "bearer" or not token.strip():
                raise Unauthenticated("the authorization header is not 'Bearer <token>'")
            return token.strip()
    raise Unauthenticated
