"""What an S3 endpoint's faults mean to a caller, and which of them pass by themselves (DESIGN 3, 5)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from tenacity import Retrying, retry_if_exception, stop_before_delay, wait_random_exponential
from urllib3.exceptions import HTTPError

from baldistill.errors import BalDistillError, DependencyUnavailable, StorageFull, StoreAccessDenied

_T = TypeVar("_T")

# Codes that mean `not now`. Sources: Amazon S3 API reference, "List of error codes"; minio/cmd/api-errors.go.
_PASSING = frozenset(
    {
        "InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown", "SlowDownRead",
        "SlowDownWrite", "Busy", "ServerNotInitialized", "XMinioServerNotInitialized", "ConditionalRequestConflict",
        "XMinioBackendDown", "IncompleteBody",
    }
)  # fmt: skip
_FULL = frozenset({"XMinioStorageFull", "StorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded"})
_MISSING = frozenset({"NoSuchKey", "NoSuchVersion", "ResourceNotFound"})
# Wrong settings of this process: its work waits until somebody mends them, nothing is counted against a run.
_UNSUITED = {
    "NoSuchBucket": "it has no bucket '{bucket}'; make it with `baldistill store init`, or set BALDISTILL_STORE__BUCKET",
    "InvalidAccessKeyId": "it does not know the access key '{access_key}'; check BALDISTILL_STORE__ACCESS_KEY",
    "SignatureDoesNotMatch": "the secret key of '{access_key}' is another one; check BALDISTILL_STORE__SECRET_KEY",
    "AuthorizationHeaderMalformed": "it is in another region; check BALDISTILL_STORE__REGION",
    "RequestTimeTooSkewed": "its clock and this machine's differ by more than 15 min; set them",
}


def is_missing(error: Exception) -> bool:
    """Tell whether the endpoint answered that the key is not there."""
    return isinstance(error, S3Error) and error.code in _MISSING


def is_taken(error: Exception) -> bool:
    """Tell whether a create-only write found the key taken."""
    return isinstance(error, S3Error) and error.code == "PreconditionFailed"


def passes(error: BaseException) -> bool:
    """Tell whether the same request may succeed in a moment."""
    if isinstance(error, S3Error):
        return error.code in _PASSING
    if isinstance(error, ServerError):
        return error.status_code >= 500
    # No XML: a proxy's page, or a server that is starting.
    return isinstance(error, (HTTPError, InvalidResponseError))


def retrying(operation: Callable[[], _T], *, for_s: float) -> _T:
    """Call `operation` until it succeeds, or fails for good, or `for_s` seconds are over; raise its last error."""
    attempts: Retrying = Retrying(
        stop=stop_before_delay(for_s),
        wait=wait_random_exponential(multiplier=0.05, max=1.0),
        retry=retry_if_exception(passes),
        reraise=True,
    )
    return attempts(operation)


class Patience:
    """Waits between tries of a long transfer; the time counts from the last progress."""

    def __init__(self, for_s: float) -> None:
        self._for_s = for_s
        self._progress_at = time.monotonic()

    def progressed(self) -> None:
        self._progress_at = time.monotonic()

    def wait_after(self, error: Exception) -> None:
        """Sleep before the next try. Raises `error` where it does not pass, or nothing came for too long."""
        if not passes(error) or time.monotonic() - self._progress_at > self._for_s:
            raise error
        time.sleep(random.uniform(0.1, 0.5))  # noqa: S311  (jitter)


def meaning(
    error: Exception, *, endpoint: str, bucket: str, access_key: str, key: str
) -> BalDistillError | MinioException | HTTPError:
    """Return the error that a caller understands; a mistake of our own as it is."""
    store = f"artifact store {endpoint}"
    if isinstance(error, S3Error):
        code = error.code or ""
        if code in _FULL:
            return StorageFull(path=f"{endpoint}/{bucket}")
        if code in _UNSUITED:
            reason = _UNSUITED[code].format(bucket=bucket, access_key=access_key)
            return DependencyUnavailable(dependency=store, reason=reason)
        if code == "AccessDenied":
            return StoreAccessDenied(access_key=access_key, key=key)
    if passes(error):
        return DependencyUnavailable(dependency=store, reason=_short(error))
    assert isinstance(error, (MinioException, HTTPError))
    return error


def _short(error: Exception) -> str:
    """Return an error's innermost reason on one line."""
    reason: BaseException = error
    while isinstance(getattr(reason, "reason", None), BaseException):
        reason = reason.reason  # type: ignore[attr-defined]
    text = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
    return text[:300]
