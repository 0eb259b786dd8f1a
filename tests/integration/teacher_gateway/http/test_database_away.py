"""The ledger's database goes away under the HTTP face: calls are told so, none is bought unmetered, and work goes on by itself."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest

from baldistill.local_stack.postgres import Postgres
from baldistill.testing.chat_provider import ANSWER
from services.teacher_gateway.ledger.holds import HoldState
from tests.integration.teacher_gateway.http.conftest import Face, ask, error_of, provider_running
from tests.stack.ledger_outages import new_server

# Long enough that the database is away before an answer comes; where it is not, less is shown and nothing fails.
LATENCY_S = 1.0
LONGEST_S = 60.0


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with ExitStack() as stack:
        yield new_server(stack)


@pytest.fixture(scope="module")
def face(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    folder = tmp_path_factory.mktemp("face")
    (folder / "seen").touch()
    with ExitStack() as stack:
        url = stack.enter_context(provider_running(folder / "seen", latency_s=LATENCY_S))
        yield Face(folder, url, stack, kind="postgres", location=server.url)


def refused(face: Face, **options: Any) -> pytest.ExceptionInfo[openai.InternalServerError]:
    with pytest.raises(openai.InternalServerError) as raised:
        ask(face.client(), **options)
    return raised


def wait_for(reached: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + LONGEST_S
    while not reached():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def answers_again(face: Face, **options: Any) -> Any:
    """Ask until it is answered, as a client that obeys Retry-After."""
    give_up_at = time.monotonic() + LONGEST_S
    while True:
        try:
            return ask(face.client(), **options)
        except openai.InternalServerError:
            assert time.monotonic() < give_up_at
            time.sleep(0.1)


@pytest.mark.parametrize("kind", ["refused", "paused"])
def test_calls_are_told_and_none_passes_unmetered_and_what_was_answered_is_not_bought_again(
    face: Face, server: Postgres, kind: str
) -> None:
    budget = face.budget()
    headers = {"X-BalDistill-Budget": budget.run_id}
    first = headers | {"Idempotency-Key": f"{kind}-first"}
    assert ask(face.client(), extra_headers=first).choices[0].message.content == ANSWER

    under_way: list[Any] = []
    asking = threading.Thread(target=lambda: under_way.append(ask(face.client(budget))))
    before = len(face.seen())
    asking.start()
    wait_for(lambda: len(face.seen()) > before)
    seen = len(face.seen())
    if kind == "paused":
        server.send(signal.SIGSTOP)
    else:
        server.kill()
    try:
        raised = refused(face, extra_headers=headers)
        assert (raised.value.status_code, error_of(raised)["code"]) == (503, "gateway_unavailable")
        assert "nothing was bought" in error_of(raised)["message"]
        assert int(raised.value.response.headers["retry-after"]) > 0
        assert raised.value.response.headers["x-baldistill-origin"] == "gateway"
        assert refused(face, extra_headers=headers, stream=True).value.status_code == 503
        # Whether it was bought before, nobody can tell now.
        assert refused(face, extra_headers=first).value.status_code == 503
        # What was under way is given to its caller.
        asking.join(LONGEST_S)
        assert [one.choices[0].message.content for one in under_way] == [ANSWER]
        assert len(face.seen()) == seen
    finally:
        if kind == "paused":
            server.send(signal.SIGCONT)
        else:
            server.start(dies_with_parent=True)

    assert answers_again(face, extra_headers=headers).choices[0].message.content == ANSWER
    again = face.client().chat.completions.with_raw_response.create(
        model="gpt-fake",
        max_completion_tokens=64,
        messages=[{"role": "user", "content": "Which label?"}],
        extra_headers=first,
    )
    assert again.headers["x-baldistill-stored"] == "true"
    # Three were bought: each is in the ledger with its answer, and the provider saw no other.
    wait_for(lambda: face.states(budget).count(HoldState.SETTLED) == 3 and face.held(budget) == 0)
    # What a caller got who had given up by then was given back.
    assert set(face.states(budget)) <= {HoldState.SETTLED, HoldState.RELEASED}
    assert len(face.seen()) == seen + 1
    assert face.spent(budget).calls == 3
