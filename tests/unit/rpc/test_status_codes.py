from __future__ import annotations

import re
from pathlib import Path

import grpc

from baldistill.errors import BalDistillError, NotKnown, PermanentError, RetryableError
from baldistill.rpc.status_codes import STATUS_CODES


class Frozen(RetryableError):
    pass


def test_the_nearest_base_class_with_a_row_decides() -> None:
    assert STATUS_CODES.code(NotKnown(kind="run", name="r1")) is grpc.StatusCode.NOT_FOUND
    assert STATUS_CODES.code(PermanentError("x")) is grpc.StatusCode.FAILED_PRECONDITION
    assert STATUS_CODES.code(Frozen("x")) is grpc.StatusCode.UNAVAILABLE
    assert STATUS_CODES.code(BalDistillError("x")) is grpc.StatusCode.INTERNAL


def test_what_is_none_of_ours_has_no_code() -> None:
    assert STATUS_CODES.code(ValueError("x")) is None


def test_the_reference_names_every_row() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "grpc.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("|")]
    for error, code in STATUS_CODES.rows.items():
        assert any(re.search(rf"\b{error.__name__}\b.*\| {code.name} \|", line) for line in lines), error


def test_a_service_adds_its_own_rows() -> None:
    own = STATUS_CODES.with_rows({Frozen: grpc.StatusCode.FAILED_PRECONDITION})
    assert own.code(Frozen("x")) is grpc.StatusCode.FAILED_PRECONDITION
    assert STATUS_CODES.code(Frozen("x")) is grpc.StatusCode.UNAVAILABLE
