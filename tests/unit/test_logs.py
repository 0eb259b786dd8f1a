from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from baldistill.telemetry.logs import configure_logging, open_log_file


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_logging(service="selector", stream=stream)
    yield stream
    structlog.reset_defaults()


def test_an_event_is_one_line_of_json_with_its_fields_apart(lines: io.StringIO) -> None:
    structlog.get_logger().info("shard scored", run_id="r1", shard=3)
    (line,) = lines.getvalue().splitlines()
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "shard scored", "level": "info", "run_id": "r1", "service": "selector", "shard": 3}


def test_prompts_answers_and_keys_are_withheld(lines: io.StringIO) -> None:
    structlog.get_logger().warning("reply rejected", prompt="secret one", api_key="secret two", run_id="r1")
    assert "secret" not in lines.getvalue()
    assert json.loads(lines.getvalue())["prompt"] == "withheld"


def test_debug_is_off_by_default(lines: io.StringIO) -> None:
    structlog.get_logger().debug("reply", prompt="secret")
    assert lines.getvalue() == ""


def test_a_traceback_is_in_the_line_without_local_variables(lines: io.StringIO) -> None:
    prompt = "secret"
    try:
        _ = 1 / len(prompt[:0])
    except ZeroDivisionError as error:
        structlog.get_logger().error("handler failed", exc_info=error)
    (line,) = lines.getvalue().splitlines()
    assert "ZeroDivisionError" in json.loads(line)["exception"]
    assert "secret" not in line


def test_a_log_file_holds_whole_lines_of_several_openings(tmp_path: Path) -> None:
    for number in range(2):
        with open_log_file(tmp_path / "run.jsonl") as stream:
            configure_logging(service="selector", stream=stream)
            structlog.get_logger().info("shard scored", shard=number)
            structlog.reset_defaults()
    lines = (tmp_path / "run.jsonl").read_text().splitlines()
    assert [json.loads(line)["shard"] for line in lines] == [0, 1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    with open_log_file(Path("/dev/full")) as stream:
        configure_logging(service="selector", stream=stream)
        structlog.get_logger().info("shard scored", shard=1)
        structlog.reset_defaults()
