"""The HTTP face of a process: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever restarts and routes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from baldistill.rpc.listening import ListenFailed, parse_listen_address
from baldistill.telemetry.process_metrics import ProcessMetrics

_LISTEN_SETTING = "server.metrics_listen"
_STALLED_CLIENT_S = 10.0


class MetricsPage:
    """Serves in threads of its own. lacking: what each face lacks now; ready while it is empty."""

    def __init__(
        self, metrics: ProcessMetrics, *, listen: str, lacking: Callable[[], Mapping[str, Mapping[str, str]]]
    ) -> None:
        self._metrics = metrics
        self._host, self._wanted_port = parse_listen_address(listen, setting=_LISTEN_SETTING)
        self._lacking = lacking
        self._is_draining = False
        self._server: ThreadingHTTPServer | None = None

    @property
    def address(self) -> str:
        """host:port, once it is started."""
        assert self._server is not None
        return f"{self._host}:{self._server.server_address[1]}"

    def start(self) -> None:
        """Listen. Raises ListenFailed."""
        address = (self._host.strip("[]"), self._wanted_port)
        try:
            self._server = _Server(address, _handler(self._answer))
        except OSError as error:
            place = f"{self._host}:{self._wanted_port}"
            reason = (error.strerror or str(error)).lower()
            raise ListenFailed(address=place, setting=_LISTEN_SETTING, reason=reason) from error
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def begin_drain(self) -> None:
        """Say that the process is not ready. It is still alive: nobody should kill it before it has ended."""
        self._is_draining = True

    def close(self) -> None:
        """Stop listening. Idempotent."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _answer(self, path: str, accept: str) -> tuple[HTTPStatus, bytes, str]:
        if path == "/metrics":
            body, content_type = self._metrics.page(accept=accept)
            return HTTPStatus.OK, body, content_type
        if path == "/healthz":
            return HTTPStatus.OK, b"ok\n", "text/plain"
        if path == "/readyz":
            lacking = {"process": {"drain": "it is stopping"}} if self._is_draining else self._lacking()
            status = HTTPStatus.SERVICE_UNAVAILABLE if lacking else HTTPStatus.OK
            return status, json.dumps({"ready": not lacking, "lacking": lacking}).encode(), "application/json"
        return HTTPStatus.NOT_FOUND, b"/metrics, /healthz, /readyz\n", "text/plain"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Two processes on one port would share its scrapes silently; after a restart the port is free at once all the same.
    allow_reuse_port = False


def _handler(answer: Callable[[str, str], tuple[HTTPStatus, bytes, str]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _STALLED_CLIENT_S

        def do_GET(self) -> None:
            status, body, content_type = answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  (the base class's name)
            """Say nothing: a scrape every few seconds is no news."""

    return Handler
