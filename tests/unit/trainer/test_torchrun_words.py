"""What torchrun's agent says for processes that ended without a word of their own."""

from __future__ import annotations

import signal

import pytest

from baldistill.jobs.process_main import EXIT_CODES
from services.trainer.torchrun_job import word_for


def test_a_process_that_was_killed_is_a_disruption() -> None:
    assert word_for({1: -signal.SIGKILL}) == {"how": "stopped"}


def test_a_process_that_crashed_is_a_failure_that_is_counted() -> None:
    word = word_for({0: EXIT_CODES["stopped"], 1: -signal.SIGSEGV})
    assert word is not None
    assert word["how"] == "retryable"
    assert word["reason"].endswith("process 1 with code -11")


@pytest.mark.parametrize("how", sorted(EXIT_CODES))
def test_what_the_processes_said_themselves_stands(how: str) -> None:
    assert word_for({0: EXIT_CODES[how]}) is None
