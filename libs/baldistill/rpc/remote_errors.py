"""Status codes back to our errors, on the client's side: exit codes and verdicts are those of the server's error.

The other direction of `status_codes.py`. The server's message is kept: it says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import grpc

from baldistill.errors import (
    AccessDenied,
    AlreadyThere,
    ArtifactCorrupt,
    BalDistillError,
    DependencyUnavailable,
    InvalidInput,
    LimitReached,
    NotAllowedNow,
    NotKnown,
    PermanentError,
    RetryableError,
    Unauthenticated,
)
from baldistill.rpc.status_codes import ERROR_TYPE_METADATA


class RemoteUnavailable(DependencyUnavailable):
    """A server is there but cannot answer now, or does not answer in time."""

    def __init__(self, *, endpoint: str, reason: str) -> None:
        RetryableError.__init__(self, f"{endpoint} cannot answer now: {reason}")
        self.dependency = endpoint
        self.reason = reason


class RemoteNotKnown(NotKnown):
    """What was asked for is not there, says a server."""

    def __init__(self, message: str) -> None:
        PermanentError.__init__(self, message)
        self.kind = self.name = ""


class RemoteAlreadyThere(AlreadyThere):
    """A name is taken, says a server."""

    def __init__(self, message: str) -> None:
        PermanentError.__init__(self, message)
        self.kind = self.name = ""


class RemoteUnauthenticated(Unauthenticated):
    """A server does not know the token. Its message says already what to set."""

    def __init__(self, message: str) -> None:
        PermanentError.__init__(self, message)


class RemoteAccessDenied(AccessDenied):
    """A server does not let this token do this."""

    def __init__(self, message: str) -> None:
        PermanentError.__init__(self, message)
        self.subject = self.tenant = ""


class RemoteCorrupt(ArtifactCorrupt):
    """A server found bytes that are not those that were stored."""

    def __init__(self, message: str) -> None:
        PermanentError.__init__(self, message)
        self.key = self.expected_sha256 = self.actual_sha256 = ""


class RemoteTooOld(PermanentError):
    """A server does not know this call: it is of an earlier version than who asks."""

    def __init__(self, message: str) -> None:
        super().__init__(
            f"the server does not know this call, so it is older than this program: upgrade it ({message})"
        )


_ERROR_OF: Mapping[grpc.StatusCode, Callable[[str], BalDistillError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.NOT_FOUND: RemoteNotKnown,
    grpc.StatusCode.ALREADY_EXISTS: RemoteAlreadyThere,
    grpc.StatusCode.FAILED_PRECONDITION: NotAllowedNow,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitReached,
    grpc.StatusCode.UNAUTHENTICATED: RemoteUnauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: RemoteAccessDenied,
    grpc.StatusCode.DATA_LOSS: RemoteCorrupt,
    grpc.StatusCode.CANCELLED: RetryableError,
    grpc.StatusCode.UNIMPLEMENTED: RemoteTooOld,
}


def error_from_status(error: grpc.RpcError, *, endpoint: str) -> BalDistillError:
    """Return the error of ours that a failed call stands for. endpoint: whom we asked, as a person wrote it."""
    code, details = error.code(), error.details() or ""
    metadata: Iterable[Any] = error.trailing_metadata() or ()
    said_by_server = next((value for name, value in metadata if name == ERROR_TYPE_METADATA), None)
    if code is grpc.StatusCode.UNAVAILABLE and said_by_server is None:
        return DependencyUnavailable(
            dependency=endpoint,
            reason=f"{details}; check that it runs there, and the endpoint (--endpoint, BALDISTILL_ENDPOINT) and its CA",
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return RemoteUnavailable(
            endpoint=endpoint, reason="it did not answer in time; what was asked may have been done"
        )
    if code is grpc.StatusCode.UNAVAILABLE or said_by_server == "StorageFull":
        return RemoteUnavailable(endpoint=endpoint, reason=details)
    make = _ERROR_OF.get(code)
    return make(details) if make is not None else BalDistillError(f"{endpoint} failed: {details}")
