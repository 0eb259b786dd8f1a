"""One gateway with its HTTP face over a real provider on the loopback, shared by the tests of this folder."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.specs.runspec import TeacherSpec
from baldistill.testing.chat_provider import API_KEY, ChatProvider
from baldistill.testing.databases import open_test_database
from baldistill.testing.faces import TenantTokens
from services.teacher_gateway.composition import TeacherGateway, build_teacher_gateway
from services.teacher_gateway.ledger.budgets import Amounts, BudgetPath, Ceilings
from services.teacher_gateway.ledger.holds import HoldState
from services.teacher_gateway.served_models import ServedModel
from services.teacher_gateway.servers.openai.opening import open_face
from services.teacher_gateway.settings import HttpSettings

TENANT = "acme"
# Nano-USD a token, in and out.
PRICE = {"input_usd_per_million_tokens": 1, "output_usd_per_million_tokens": 2}
BODY_BYTES = 100_000
_RUNS = itertools.count(1)


@contextmanager
def provider_running(seen: Path, *, latency_s: float = 0.0) -> Iterator[str]:
    """Run a provider in a thread of its own; yield its base URL. latency_s: until it answers."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(ChatProvider(seen=seen, latency_s=latency_s).listen(0), loop).result()

    async def close() -> None:
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Face:
    """The gateway's face, and what its ledger and its provider say. url: ends with /v1.

    kind, location: of the database; by default it lies in the folder.
    """

    def __init__(
        self, folder: Path, url: str, exit_stack: ExitStack, *, kind: str = "sqlite", location: str = ""
    ) -> None:
        self._seen = folder / "seen"
        engine = open_test_database(kind=kind, location=location or str(folder))
        exit_stack.callback(engine.dispose)
        self.gateway: TeacherGateway = build_teacher_gateway(
            store=LocalArtifactStore(folder / "store"),
            engine=engine,
            locks=folder / "locks",
            environment={"OPENAI_API_KEY": API_KEY, "WRONG_KEY": "sk-secret", "PACED_KEY": f"{API_KEY}-2"},
        )
        exit_stack.callback(self.gateway.close)
        face = open_face(
            [
                ServedModel(teacher=_teacher(url)),
                ServedModel(teacher=_teacher(url, model="short", timeout_s=1.0), default_max_tokens=16),
                ServedModel(teacher=_teacher(url, model="others"), tenants=frozenset({"other"})),
                ServedModel(teacher=_teacher(url, model="wrong-key", api_key_env="WRONG_KEY")),
                ServedModel(teacher=_teacher(url, model="paced", api_key_env="PACED_KEY")),
                ServedModel(teacher=_teacher("http://127.0.0.1:1/v1", model="away")),
            ],
            self.gateway.forwarding,
            settings=HttpSettings(listen="127.0.0.1:0", body_bytes=BODY_BYTES, body_timeout_s=1.0),
            verifier=TenantTokens(),
        )
        face.start()
        exit_stack.callback(face.stop, grace_s=1)
        self.address = face.address
        self.url = f"http://{face.address}/v1"
        self.face = face
        self._exit = exit_stack

    def budget(self, **ceilings: int) -> BudgetPath:
        """Make a new budget of a run, unlimited where nothing is said."""
        path = BudgetPath(tenant=TENANT, run_id=f"run-{next(_RUNS)}")
        self.gateway.ledger.ensure_budget(path, ceilings=Ceilings(**ceilings), actor="test")
        return path

    def client(self, budget: BudgetPath | None = None, *, token: str = TENANT, **options: Any) -> OpenAI:
        """Return the real client, with its own retries off."""
        headers = {} if budget is None else {"X-BalDistill-Budget": budget.run_id}
        client = OpenAI(base_url=self.url, api_key=token, max_retries=0, default_headers=headers, **options)
        self._exit.callback(client.close)
        return client

    def spent(self, budget: BudgetPath) -> Amounts:
        (status, *_) = self.gateway.ledger.budget_tree(budget)
        return status.spent

    def held(self, budget: BudgetPath) -> int:
        (status, *_) = self.gateway.ledger.budget_tree(budget)
        return status.held.calls

    def states(self, budget: BudgetPath) -> list[HoldState]:
        return [attempt.state for attempt in self.gateway.ledger.attempts(budget)]

    def request_ids(self, budget: BudgetPath) -> list[str]:
        return [attempt.request_id for attempt in self.gateway.ledger.attempts(budget)]

    def seen(self) -> list[str]:
        return self._seen.read_text().splitlines()


@pytest.fixture(scope="package")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    folder = tmp_path_factory.mktemp("face")
    (folder / "seen").touch()
    with ExitStack() as exit_stack:
        url = exit_stack.enter_context(provider_running(folder / "seen"))
        yield Face(folder, url, exit_stack)


def ask(client: OpenAI, content: str = "Which label?", **options: Any) -> Any:
    """Ask for a completion."""
    wanted = {"model": "gpt-fake", "max_completion_tokens": 64, **options}
    return client.chat.completions.create(messages=[{"role": "user", "content": content}], **wanted)


def error_of(raised: pytest.ExceptionInfo[openai.APIStatusError]) -> dict[str, Any]:
    """Return the error's JSON."""
    error: dict[str, Any] = raised.value.response.json()["error"]
    return error


def _teacher(url: str, *, model: str = "gpt-fake", **changes: Any) -> TeacherSpec:
    return TeacherSpec.model_validate({"kind": "openai", "model": model, "base_url": url, "price": PRICE, **changes})
