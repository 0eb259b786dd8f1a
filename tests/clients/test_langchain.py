"""LangChain's real client against the HTTP face (`make clients-check`): unchanged, under the ledger."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from baldistill.testing.chat_provider import ANSWER, ANSWER_TOKENS
from services.teacher_gateway.ledger.budgets import BudgetPath
from tests.integration.teacher_gateway.http.conftest import TENANT, Face, provider_running

PEERS = Path(os.environ.get("BALDISTILL_PEERS", Path.home() / ".cache" / "baldistill" / "peers"))
SCRIPT = Path(__file__).with_name("langchain_asks.py")
# One answer, one stream, a batch of four, one with tools.
CALLS = 7


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    folder = tmp_path_factory.mktemp("face")
    (folder / "seen").touch()
    with ExitStack() as exit_stack:
        yield Face(folder, exit_stack.enter_context(provider_running(folder / "seen")), exit_stack)


@pytest.fixture(scope="module")
def budget(face: Face) -> BudgetPath:
    return face.budget()


@pytest.fixture(scope="module")
def told(face: Face, budget: BudgetPath) -> dict[str, Any]:
    """What the client got, of all that it asked for."""
    python = PEERS / "langchain" / "bin" / "python"
    assert python.exists(), f"{python} is missing; run `make clients-check`"
    command = [str(python), str(SCRIPT), face.url, TENANT, budget.run_id, face.budget(calls=0).run_id]
    # What is ours is not LangChain's to import.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=120)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_an_answer_comes_whole_with_its_usage(told: dict[str, Any]) -> None:
    assert told["answer"]["content"] == ANSWER
    assert told["answer"]["usage"]["output_tokens"] == ANSWER_TOKENS


def test_a_stream_comes_in_parts(told: dict[str, Any]) -> None:
    assert told["stream"]["content"].split() == ANSWER.split()
    assert told["stream"]["chunks"] > 2


def test_a_batch_is_answered_one_by_one(told: dict[str, Any]) -> None:
    assert told["batch"] == [ANSWER] * 4


def test_tool_calls_pass_through(told: dict[str, Any]) -> None:
    (call,) = told["tools"]
    assert (call["name"], call["args"]) == ("weather", {"city": "Bern"})


def test_an_exhausted_budget_is_told_by_name_and_with_what_is_left(told: dict[str, Any]) -> None:
    assert told["exhausted"]["status"] == 402
    body = told["exhausted"]["body"]
    assert body["code"] == "budget_exhausted"
    assert (body["budget"]["unit"], body["budget"]["remaining"]) == ("calls", 0)


def test_a_bad_token_is_told(told: dict[str, Any]) -> None:
    assert (told["bad_token"]["status"], told["bad_token"]["body"]["code"]) == (401, "invalid_api_key")


@pytest.mark.usefixtures("told")
def test_every_call_and_no_other_is_in_the_ledger(face: Face, budget: BudgetPath) -> None:
    # Refused calls were neither booked nor sent, and were not asked again.
    assert face.spent(budget).calls == CALLS
    assert len(face.seen()) == CALLS
    assert set(face.request_ids(budget)) == set(face.seen())
