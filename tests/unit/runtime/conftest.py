"""What the tests of the consumer loop share."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import structlog

from baldistill.telemetry.logs import configure_logging
from tests.unit.runtime.consumer_scene import Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def quiet() -> Iterator[None]:
    configure_logging(service="test", stream=io.StringIO())
    yield
    structlog.reset_defaults()
