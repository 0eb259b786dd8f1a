"""The `openai` client against a loopback server: each way a call can end, one HTTP request per hold, no key told."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import migrate
from baldistill.errors import DependencyUnavailable, InvalidInput
from baldistill.settings import DatabaseSettings
from baldistill.specs.runspec import KeyLimitsSpec, TeacherSpec
from baldistill.tasks.bounds import UnpricedTeacher
from baldistill.testing.teacher_runs import frozen_run, tickets
from services.teacher_gateway.adapters.openai_teacher import OpenAITeacher
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.adapters.teacher_directory import TeacherDirectory
from services.teacher_gateway.bookings import PendingBookings
from services.teacher_gateway.caller import Answered, TeacherCaller, Unanswered
from services.teacher_gateway.draining import Drain
from services.teacher_gateway.effects import ThreadEffects
from services.teacher_gateway.errors import PromptChanged, TeacherRefused
from services.teacher_gateway.ledger.holds import HoldState
from services.teacher_gateway.limits.terms import KeyLimits
from services.teacher_gateway.ports import CallEnd, CallResult, TeacherCall
from services.teacher_gateway.preflight import check_teacher
from services.teacher_gateway.requests import TeacherRequest, annotation_request
from services.teacher_gateway.run_budgets import ensure_run_budget, run_path
from services.teacher_gateway.settings import TeacherGatewaySettings
from tests.teachers import key_of, open_gate

KEY = "sk-secret"
FREE = {"input_usd_per_million_tokens": 0, "output_usd_per_million_tokens": 0}


@contextmanager
def serving(seen: Path, **faults: Any) -> Iterator[str]:
    """Run the protocol server in a process of its own; yield its base URL."""
    command = [sys.executable, "-m", "baldistill.testing.protocol_server", "--seen", str(seen)]
    with subprocess.Popen([*command, "--faults", json.dumps(faults)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().removeprefix("listening on ").strip()
        finally:
            server.kill()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    with ExitStack() as servers:
        yield lambda **faults: servers.enter_context(serving(tmp_path / "seen.log", **faults))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(sqlite_url(tmp_path / "baldistill.db"))
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def ledger(engine: Engine) -> Iterator[SqlLedger]:
    ledger = SqlLedger(engine)
    yield ledger
    ledger.close()


def call(*, timeout_s: float = 30.0) -> TeacherCall:
    request = annotation_request(frozen_run(), stage=1, example=tickets("billing", 1)[0])
    return TeacherCall(
        request_id="key/1",
        model="m",
        messages=request.messages,
        temperature=0.0,
        seed=7,
        max_completion_tokens=64,
        timeout_s=timeout_s,
    )


@contextmanager
def teacher_at(url: str, key: str = KEY) -> Iterator[OpenAITeacher]:
    teacher = OpenAITeacher(base_url=url, api_key=key)
    yield teacher
    teacher.close()


def complete(url: str, *, timeout_s: float = 30.0) -> CallResult:
    with teacher_at(url) as teacher:
        return teacher.complete(call(timeout_s=timeout_s))


def seen(tmp_path: Path) -> list[str]:
    return (tmp_path / "seen.log").read_text().split()


def test_an_answer_carries_text_and_usage_and_our_id_reaches_the_provider(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    result = complete(serve(api_key=KEY))
    assert result.end is CallEnd.ANSWERED
    assert result.text.endswith("Answer: billing")
    assert result.prompt_tokens
    assert result.completion_tokens
    assert seen(tmp_path) == ["key/1"]


def test_each_bad_end_is_told_apart_after_one_request(serve: Callable[..., str], tmp_path: Path) -> None:
    expected = [
        ({"without_usage": 1.0}, CallEnd.ANSWERED, 0),
        ({"malformed": 1.0}, CallEnd.ANSWERED, 0),
        ({"rate_limited": 1.0}, CallEnd.HTTP_ERROR, 429),
        ({"bad_request": 1.0}, CallEnd.HTTP_ERROR, 400),
        ({"cut": 1.0}, CallEnd.LOST, 0),
    ]
    for faults, end, status in expected:
        result = complete(serve(**faults))
        assert (result.end, result.status, result.prompt_tokens) == (end, status, None), faults
    assert len(seen(tmp_path)) == len(expected)


def test_a_rate_limit_says_when_to_come_back(serve: Callable[..., str]) -> None:
    assert complete(serve(rate_limited=1.0, retry_after_s=7)).retry_after_s == 7.0


def test_a_silent_teacher_is_given_up_and_nobody_knows_what_it_did(serve: Callable[..., str]) -> None:
    assert complete(serve(hanging=1.0), timeout_s=0.3).end is CallEnd.LOST


def test_an_answer_that_comes_byte_by_byte_is_given_up_at_the_calls_deadline(serve: Callable[..., str]) -> None:
    url, began_s = serve(dripping=1.0, hang_s=60), time.monotonic()
    result = complete(url, timeout_s=0.5)
    assert (result.end, "within 0.5 s" in result.detail) == (CallEnd.LOST, True)
    assert time.monotonic() - began_s < 30


def _closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def test_a_refused_connection_never_sent_anything() -> None:
    result = complete(_closed_port())
    assert (result.end, "refused" in result.detail.casefold()) == (CallEnd.NEVER_SENT, True)


def test_a_wrong_key_is_told_without_the_key(serve: Callable[..., str]) -> None:
    with teacher_at(serve(api_key="other")) as teacher:
        result = teacher.complete(call())
        with pytest.raises(TeacherRefused, match="status 401") as refused:
            teacher.check()
    assert (result.status, KEY in result.detail) == (401, False)
    assert KEY not in str(refused.value)


def test_the_check_before_a_run_finds_an_absent_teacher_and_a_missing_key(serve: Callable[..., str]) -> None:
    teachers = TeacherDirectory({"OPENAI_API_KEY": KEY})
    with pytest.raises(DependencyUnavailable, match="teacher http"):
        check_teacher(TeacherSpec.model_validate({"base_url": _closed_port(), "price": FREE}), teachers=teachers)
    check_teacher(TeacherSpec.model_validate({"base_url": serve(), "price": FREE}), teachers=teachers)
    with pytest.raises(UnpricedTeacher):
        check_teacher(TeacherSpec.model_validate({"base_url": _closed_port()}), teachers=teachers)
    with pytest.raises(InvalidInput, match="MY_KEY is not set"):
        check_teacher(
            TeacherSpec.model_validate({"base_url": _closed_port(), "price": FREE, "api_key_env": "MY_KEY"}),
            teachers=teachers,
        )
    teachers.close()


def test_a_key_is_sent_to_no_other_url_than_those_that_are_allowed(serve: Callable[..., str]) -> None:
    allowed = serve()
    teachers = TeacherDirectory({"OPENAI_API_KEY": KEY}, urls=[f"{allowed}/"])
    check_teacher(TeacherSpec.model_validate({"base_url": allowed, "price": FREE}), teachers=teachers)
    with pytest.raises(InvalidInput, match="sends no key"):
        check_teacher(TeacherSpec.model_validate({"base_url": serve(), "price": FREE}), teachers=teachers)
    teachers.close()


def test_limits_of_a_spec_count_over_its_tenants_runs_and_the_operators_over_everybody() -> None:
    spec = {
        "base_url": "http://t/v1",
        "price": FREE,
        "key_limits": {"calls_at_once": 1},
        "more_api_key_envs": ["SECOND"],
    }
    runs = [frozen_run(teacher=spec, tenant=tenant, run_id=run) for tenant, run in (("a", "1"), ("a", "2"), ("b", "1"))]
    teachers = TeacherDirectory(
        {"OPENAI_API_KEY": KEY, "SECOND": "other"},
        key_limits={"SECOND": KeyLimitsSpec(requests_per_minute=50)},
    )
    ones, seconds = zip(*(teachers.keys_for(run.spec.teacher, run=run) for run in runs), strict=True)
    assert ones[0].limits_id == ones[1].limits_id != ones[2].limits_id
    assert {one.limits for one in ones} == {KeyLimits(calls_at_once=1)}
    assert len({second.limits_id for second in seconds}) == 1
    assert {second.limits for second in seconds} == {KeyLimits(requests_per_minute=50)}
    # A key that the provider refused rests for all.
    assert len({one.key_id for one in ones}) == 1
    teachers.close()


def test_a_gateway_process_hands_no_secret_of_its_own_to_a_spec_that_names_it() -> None:
    environment = {"OPENAI_API_KEY": "k", "OTHER_KEY": "o", "BALDISTILL_DATABASE__URL": "postgresql://user:secret@db/x"}
    database = DatabaseSettings.model_validate({"url": environment["BALDISTILL_DATABASE__URL"]})
    assert TeacherGatewaySettings(database=database).keys_in(environment) == {"OPENAI_API_KEY": "k"}
    own = TeacherSpec.model_validate({"base_url": "http://t/v1", "price": FREE, "api_key_env": "OTHER_KEY"})
    told = TeacherGatewaySettings(database=database, teacher=own, teacher_urls=("http://a/v1",))
    assert told.keys_in(environment) == {"OPENAI_API_KEY": "k", "OTHER_KEY": "o"}
    assert told.urls() == ("http://a/v1", "http://t/v1")
    assert TeacherGatewaySettings(database=database, teacher=own).urls() == ()


class Buyer:
    """A caller over a real ledger and a real server."""

    def __init__(self, ledger: SqlLedger, url: str, **teacher: Any) -> None:
        spec = {"base_url": url, "price": FREE, "max_attempts": 3, "model": "m", **teacher}
        self.frozen = frozen_run(teacher=spec, budget={"examples": 10, "calls": 4})
        ensure_run_budget(ledger, self.frozen)
        self.ledger = ledger
        self.client = OpenAITeacher(base_url=url, api_key=KEY)
        self.pauses: list[float] = []
        self.caller = TeacherCaller(
            self.frozen.spec.teacher,
            price_version=self.frozen.price_version,
            effects=ThreadEffects(
                ledger=ledger,
                bookings=PendingBookings(ledger),
                keys=[key_of(self.client)],
                gate=open_gate(),
                drain=Drain(),
                pause=self.pauses.append,
            ),
        )

    def request(self, number: int = 0) -> TeacherRequest:
        return annotation_request(self.frozen, stage=1, example=tickets("billing", 10)[number])

    def states(self) -> list[HoldState]:
        return [attempt.state for attempt in self.ledger.attempts(run_path(self.frozen))]

    def close(self) -> None:
        self.client.close()


@pytest.fixture
def buyer(ledger: SqlLedger, serve: Callable[..., str]) -> Iterator[Callable[..., Buyer]]:
    with ExitStack() as buyers:

        def make(*, faults: dict[str, Any] | None = None, url: str = "", **teacher: Any) -> Buyer:
            made = Buyer(ledger, url or serve(**(faults or {})), **teacher)
            buyers.callback(made.close)
            return made

        yield make


def test_a_stored_answer_is_not_asked_for_again(buyer: Callable[..., Buyer], tmp_path: Path) -> None:
    one = buyer()
    bought, again = one.caller.ask(one.request()), one.caller.ask(one.request())
    assert isinstance(bought, Answered)
    assert isinstance(again, Answered)
    assert (bought.stored, again.stored) == (False, True)
    assert again.reply == bought.reply
    assert len(seen(tmp_path)) == 1


def test_a_rate_limited_request_waits_as_told_and_is_not_billed(buyer: Callable[..., Buyer], tmp_path: Path) -> None:
    one = buyer(faults={"rate_limited": 1.0, "retry_after_s": 3})
    outcome = one.caller.ask(one.request())
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.overloaded) == ("http_429", True)
    assert one.pauses == [pytest.approx(3, abs=1), pytest.approx(3, abs=1)]
    assert one.states() == [HoldState.RELEASED] * 3
    attempts = one.ledger.attempts(run_path(one.frozen))
    assert seen(tmp_path) == [attempt.request_id for attempt in attempts]


def test_a_lost_answer_is_spent_and_tried_again_while_the_ceiling_allows(buyer: Callable[..., Buyer]) -> None:
    one = buyer(faults={"cut": 1.0})
    assert isinstance(one.caller.ask(one.request(0)), Unanswered)
    second = one.caller.ask(one.request(1))
    assert isinstance(second, Unanswered)
    assert second.reason == "budget_exhausted"
    assert one.states() == [HoldState.UNKNOWN] * 4


def test_an_answer_that_cannot_be_read_was_paid_for_at_its_bound(buyer: Callable[..., Buyer]) -> None:
    one = buyer(faults={"malformed": 1.0})
    outcome = one.caller.ask(one.request())
    assert isinstance(outcome, Answered)
    assert outcome.reply.text == ""
    assert one.states() == [HoldState.SETTLED]


def test_a_request_that_the_teacher_refuses_is_not_tried_again(buyer: Callable[..., Buyer]) -> None:
    one = buyer(faults={"bad_request": 1.0})
    assert one.caller.ask(one.request()) == Unanswered(reason="http_400")
    assert one.states() == [HoldState.RELEASED]


def test_a_teacher_that_is_away_pauses_the_work_and_costs_nothing(buyer: Callable[..., Buyer]) -> None:
    one = buyer(url=_closed_port())
    with pytest.raises(DependencyUnavailable, match="teacher"):
        one.caller.ask(one.request())
    assert one.states() == [HoldState.RELEASED]


def test_a_wrong_key_stops_the_run_instead_of_failing_its_rows(buyer: Callable[..., Buyer]) -> None:
    one = buyer(faults={"api_key": "other"})
    with pytest.raises(TeacherRefused):
        one.caller.ask(one.request())


def test_a_changed_prompt_is_not_bought(buyer: Callable[..., Buyer], tmp_path: Path) -> None:
    one = buyer()
    one.caller.ask(one.request())
    other = buyer(model="another")
    with pytest.raises(PromptChanged):
        other.caller.ask(other.request())
    assert len(seen(tmp_path)) == 1
