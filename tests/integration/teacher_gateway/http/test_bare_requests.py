"""What curl and bare sockets meet: forms of bodies that no client library would send, and requests that never end."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from baldistill.testing.chat_provider import ANSWER
from tests.integration.teacher_gateway.http.conftest import BODY_BYTES, TENANT, Face

ASK = {"model": "gpt-fake", "max_tokens": 64, "messages": [{"role": "user", "content": "Which label?"}]}


def curl(face: Face, body: str, *options: str, path: str = "/chat/completions", run: str = "") -> tuple[int, str]:
    """Post a body; return status and answer."""
    budget = ["-H", f"X-BalDistill-Budget: {run}"] if run else []
    command = ["curl", "-sS", "-N", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {TENANT}", *budget, *options]
    command += ["-H", "Content-Type: application/json", "--data-binary", "@-", f"{face.url}{path}"]
    done = subprocess.run(command, input=body.encode(), capture_output=True, check=True, timeout=60)
    answer, _, status = done.stdout.decode().rpartition("\n")
    return int(status), answer


def refused(face: Face, body: dict[str, Any] | str, *options: str) -> tuple[int, str, str | None]:
    """Post a body that is refused; return status, code and parameter."""
    budget = face.budget()
    text = body if isinstance(body, str) else json.dumps(body)
    status, answer = curl(face, text, *options, run=budget.run_id)
    assert face.states(budget) == []
    error = json.loads(answer)["error"]
    return status, error["code"], error["param"]


def test_curl_gets_an_answer_and_a_stream(face: Face) -> None:
    run = face.budget().run_id
    status, answer = curl(face, json.dumps(ASK), run=run)
    assert (status, json.loads(answer)["choices"][0]["message"]["content"]) == (200, ANSWER)
    status, events = curl(face, json.dumps({**ASK, "stream": True}), run=run)
    assert status == 200
    assert events.startswith("data: {")
    assert events.rstrip().endswith("data: [DONE]")


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({**ASK, "prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({**ASK, "service_tier": "priority"}, "service_tier"),
        ({**ASK, "max_tokens": 0}, "max_tokens"),
        ({**ASK, "max_tokens": True}, "max_tokens"),
        ({**ASK, "max_completion_tokens": 9}, "max_tokens"),
        ({**ASK, "n": 1000}, "n"),
        ({**ASK, "messages": []}, "messages"),
        ({**ASK, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]},
         "messages[0].content[0]"),
        ({**ASK, "messages": [{"role": "user", "content": "x", "audio": {"id": "a"}}]}, "messages[0].audio"),
        ({**ASK, "tools": [{"type": "web_search"}]}, "tools"),
        ({**ASK, "stream_options": {"include_usage": True}}, "stream_options"),
        ('{"model": "gpt-fake", "max_tokens": 1, "max_tokens": 100000, "messages": []}', "max_tokens"),
        ('{"model": "gpt-fake", "temperature": NaN}', None),
        ("not json", None),
        ("[" * 90_000, None),
    ],
)  # fmt: skip
def test_what_has_no_bound_or_two_meanings_is_refused_before_any_reserve(
    face: Face, body: dict[str, Any] | str, parameter: str | None
) -> None:
    assert refused(face, body) == (400, "invalid_request", parameter)


def test_an_oversized_body_is_refused_whether_or_not_it_says_its_size(face: Face) -> None:
    large = json.dumps({**ASK, "user": "x" * BODY_BYTES})
    assert refused(face, large, "-H", "Expect:")[:2] == (413, "body_too_large")
    assert refused(face, large, "-H", "Expect:", "-H", "Transfer-Encoding: chunked")[:2] == (413, "body_too_large")


def test_a_compressed_body_is_refused(face: Face) -> None:
    assert refused(face, json.dumps(ASK), "-H", "Content-Encoding: gzip")[:2] == (415, "compressed")


def test_a_body_that_trickles_in_is_given_up(face: Face) -> None:
    host, port = face.address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
            b"Authorization: Bearer " + TENANT.encode() + b'\r\n\r\n{"model"'
        )
        answer = b""
        for _ in range(1000):
            try:
                connection.sendall(b" ")
            except ConnectionError:
                break
            connection.settimeout(0.05)
            try:
                received = connection.recv(65536)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            answer += received
            if not received:
                break
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"body_timeout"' in answer
    assert b"Connection: close" in answer


def test_unknown_paths_and_methods_are_told_what_there_is(face: Face) -> None:
    status, answer = curl(face, json.dumps(ASK), path="/embeddings")
    assert (status, json.loads(answer)["error"]["code"]) == (404, "unknown_url")
    status, answer = curl(face, "", "-X", "GET")
    assert (status, json.loads(answer)["error"]["code"]) == (405, "method_not_allowed")


def test_a_request_without_a_token_is_refused_before_its_body_is_read(face: Face) -> None:
    host, port = face.address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")


def test_a_draining_face_answers_what_is_under_way_and_nothing_new(tmp_path: Path) -> None:
    from contextlib import ExitStack

    from tests.integration.teacher_gateway.http.conftest import provider_running

    (tmp_path / "seen").touch()
    with ExitStack() as exit_stack:
        url = exit_stack.enter_context(provider_running(tmp_path / "seen"))
        face = Face(tmp_path, url, exit_stack)
        budget = face.budget()
        body = json.dumps({**ASK, "model": "short", "messages": [{"role": "user", "content": "!hang"}]})
        command = ["curl", "-s", "-w", "%{http_code}", "-o", "/dev/null", "-H", f"Authorization: Bearer {TENANT}"]
        command += ["-H", f"X-BalDistill-Budget: {budget.run_id}", "-d", body, f"{face.url}/chat/completions"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as under_way:
            while not face.seen():
                time.sleep(0.01)
            face.face.stop(grace_s=60)
            out, _ = under_way.communicate(timeout=60)
        assert out == b"504"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(tuple(face.address.split(":")), timeout=5).close()  # type: ignore[arg-type]
