"""What an endpoint's answers mean to a caller."""

from __future__ import annotations

from typing import Any

import pytest
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError, ReadTimeoutError

from baldistill.artifacts.s3_faults import meaning, passes, retrying
from baldistill.errors import DependencyUnavailable, StorageFull, StoreAccessDenied

PLACE = {"endpoint": "http://store:9000", "bucket": "b", "access_key": "acme", "key": "tenants/acme/a.bin"}


def answered(code: str) -> S3Error:
    absent: Any = None
    return S3Error(response=absent, code=code, message="", resource="", request_id="", host_id="")


@pytest.mark.parametrize("code", ["XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"])
def test_a_full_store_is_told_at_once(code: str) -> None:
    full = meaning(answered(code), **PLACE)
    assert isinstance(full, StorageFull)
    assert "http://store:9000/b" in str(full)
    assert not passes(answered(code))


@pytest.mark.parametrize(
    "code", ["NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed"]
)
def test_wrong_settings_wait_for_a_person_and_are_not_tried_again(code: str) -> None:
    assert isinstance(meaning(answered(code), **PLACE), DependencyUnavailable)
    assert not passes(answered(code))


def test_a_missing_right_names_who_and_what() -> None:
    denied = meaning(answered("AccessDenied"), **PLACE)
    assert isinstance(denied, StoreAccessDenied)
    assert (denied.access_key, denied.key) == ("acme", "tenants/acme/a.bin")


@pytest.mark.parametrize(
    "error",
    [
        answered("SlowDown"),
        answered("XMinioServerNotInitialized"),
        ServerError("bad gateway", 502),
        InvalidResponseError(503, "text/html", "<html>"),
        ProtocolError("Connection broken"),
        ReadTimeoutError(None, "/", "Read timed out"),  # type: ignore[arg-type]
        MaxRetryError(None, "/", NewConnectionError(None, "refused")),  # type: ignore[arg-type]
    ],
)
def test_faults_that_pass_are_tried_again_and_then_the_store_is_away(error: Exception) -> None:
    calls: list[int] = []

    def operation() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise error
        return "done"

    assert retrying(operation, for_s=5.0) == "done"
    away = meaning(error, **PLACE)
    assert isinstance(away, DependencyUnavailable)
    assert "\n" not in str(away)


def test_a_mistake_of_ours_is_not_hidden() -> None:
    ours = answered("InvalidArgument")
    assert meaning(ours, **PLACE) is ours
    assert not passes(ours)
