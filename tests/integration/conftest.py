"""The tiny student is built once for all tests that compute with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from baldistill.testing.tiny_student import build_tiny_student


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `student.base` can name."""
    return build_tiny_student(tmp_path_factory.mktemp("tiny") / "student")
