"""The one table from error types to gRPC status codes (STYLE 6)."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from baldistill.errors import (
    AccessDenied,
    AlreadyThere,
    ArtifactCorrupt,
    ArtifactMissing,
    BalDistillError,
    DependencyUnavailable,
    InvalidInput,
    LimitReached,
    NotAllowedNow,
    NotKnown,
    PermanentError,
    RetryableError,
    RunLocked,
    StorageFull,
    StoreAccessDenied,
    Unauthenticated,
)
from baldistill.rpc.calls import CallEnded

# Names the error's type beside the status, so that a client can tell two errors of one code apart.
ERROR_TYPE_METADATA = "baldistill-error"

_ROWS: dict[type[Exception], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotKnown: grpc.StatusCode.NOT_FOUND,
    ArtifactMissing: grpc.StatusCode.NOT_FOUND,
    ArtifactCorrupt: grpc.StatusCode.DATA_LOSS,
    AlreadyThere: grpc.StatusCode.ALREADY_EXISTS,
    NotAllowedNow: grpc.StatusCode.FAILED_PRECONDITION,
    RunLocked: grpc.StatusCode.FAILED_PRECONDITION,
    LimitReached: grpc.StatusCode.RESOURCE_EXHAUSTED,
    StorageFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    AccessDenied: grpc.StatusCode.PERMISSION_DENIED,
    # The server's own rights, which no caller can change.
    StoreAccessDenied: grpc.StatusCode.INTERNAL,
    DependencyUnavailable: grpc.StatusCode.UNAVAILABLE,
    CallEnded: grpc.StatusCode.DEADLINE_EXCEEDED,
    # What has no row of its own goes by its verdict.
    RetryableError: grpc.StatusCode.UNAVAILABLE,
    PermanentError: grpc.StatusCode.FAILED_PRECONDITION,
    BalDistillError: grpc.StatusCode.INTERNAL,
}


class StatusTable:
    """Maps errors to codes by their nearest base class that has a row."""

    def __init__(self, rows: Mapping[type[Exception], grpc.StatusCode] = _ROWS) -> None:
        self._rows = dict(rows)

    def with_rows(self, rows: Mapping[type[Exception], grpc.StatusCode]) -> StatusTable:
        """Return this table with a service's own rows on top."""
        return StatusTable(self._rows | dict(rows))

    @property
    def rows(self) -> Mapping[type[Exception], grpc.StatusCode]:
        """The table itself."""
        return self._rows

    def code(self, error: BaseException) -> grpc.StatusCode | None:
        """Return an error's code; None where it was not raised on purpose, so that its text tells nothing to anybody."""
        for kind in type(error).__mro__:
            if (code := self._rows.get(kind)) is not None:
                return code
        return None


STATUS_CODES = StatusTable()
