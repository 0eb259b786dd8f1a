"""A channel to one server: with token, TLS, deadline and retries, and failures as our errors.

with RpcClient(endpoint="127.0.0.1:50051", token=token) as client:
run = PolicyServiceStub(client.channel).GetRun(request).run
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import grpc

from baldistill.errors import InvalidInput
from baldistill.events.codec import TRACE_HEADER
from baldistill.events.trace_context import current_traceparent
from baldistill.rpc.limits import ServerLimits
from baldistill.rpc.remote_errors import error_from_status
from baldistill.rpc.retrying import service_config

_ENDPOINT_FORM = "host:port, http://host:port or https://host:port"
_PREFIXES = {"http": False, "https": True}


class RpcClient:
    """Calls raise errors of `baldistill.errors` instead of grpc's. Thread-safe; connects at the first call.

    endpoint: `host:port` or `http://` for plain text, `https://` for TLS.   token: a bearer token; None for open methods.
    ca: PEM file of the CA that signed the server's certificate; None = the system's. Makes `host:port` a TLS endpoint.
    deadline_s: of unary calls that name none. Streams have none.
    """

    def __init__(
        self, *, endpoint: str, token: str | None = None, ca: Path | None = None, deadline_s: float = 30.0
    ) -> None:
        target, is_tls = _parse_endpoint(endpoint, has_ca=ca is not None)
        self.endpoint = endpoint
        self._channel = grpc.secure_channel(target, _credentials(ca), _OPTIONS) if is_tls else _insecure(target)
        interceptor = _OurCalls(endpoint=endpoint, token=token, deadline_s=deadline_s)
        self.channel: grpc.Channel = grpc.intercept_channel(self._channel, interceptor)

    def close(self) -> None:
        """Cancel what is under way and disconnect. Idempotent."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _CallDetails(grpc.ClientCallDetails):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class _OurCalls(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds token, deadline and trace, and has failures raised as ours."""

    def __init__(self, *, endpoint: str, token: str | None, deadline_s: float) -> None:
        self._endpoint = endpoint
        self._token = token
        self._deadline_s = deadline_s

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        details = self._details(client_call_details, default_timeout_s=self._deadline_s)
        return _OurCall(continuation(details, request), endpoint=self._endpoint)

    def intercept_unary_stream(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        details = self._details(client_call_details, default_timeout_s=None)
        return _OurCall(continuation(details, request), endpoint=self._endpoint)

    def _details(self, details: Any, *, default_timeout_s: float | None) -> _CallDetails:
        metadata = list(details.metadata or ())
        if self._token is not None:
            metadata.append(("authorization", f"Bearer {self._token}"))
        if (traceparent := current_traceparent()) is not None:
            metadata.append((TRACE_HEADER, traceparent))
        return _CallDetails(
            method=details.method,
            timeout=default_timeout_s if details.timeout is None else details.timeout,
            metadata=metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
            compression=details.compression,
        )


class _OurCall:
    """grpc's call, except that what it raises is ours."""

    def __init__(self, call: Any, *, endpoint: str) -> None:
        self._call = call
        self._endpoint = endpoint

    def result(self, timeout: float | None = None) -> Any:
        try:
            return self._call.result(timeout) if timeout is not None else self._call.result()
        except grpc.RpcError as error:
            raise error_from_status(error, endpoint=self._endpoint) from error

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise error_from_status(error, endpoint=self._endpoint) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


_LIMITS = ServerLimits()
_OPTIONS: list[tuple[str, Any]] = [
    # What a server sends at most may be received.
    ("grpc.max_receive_message_length", _LIMITS.response_bytes),
    ("grpc.service_config", service_config()),
    # Tells within a minute that a server vanished without a word, also below a quiet stream.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A server that was away for an hour is found again within the 3 s that calls are repeated for (retrying.py).
    ("grpc.max_reconnect_backoff_ms", 1_000),
]


def _insecure(target: str) -> grpc.Channel:
    return grpc.insecure_channel(target, _OPTIONS)


def _credentials(ca: Path | None) -> grpc.ChannelCredentials:
    try:
        return grpc.ssl_channel_credentials(ca.read_bytes() if ca is not None else None)
    except OSError as error:
        raise InvalidInput(f"the CA cannot be read: {error.strerror}", path=ca) from error


def _parse_endpoint(endpoint: str, *, has_ca: bool) -> tuple[str, bool]:
    """Return grpc's target and whether it is reached by TLS. Raises InvalidInput."""
    whole = endpoint if "://" in endpoint else f"{'https' if has_ca else 'http'}://{endpoint}"
    try:
        parts = urlsplit(whole)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port is None or parts.scheme not in _PREFIXES or parts.path.strip("/") or parts.username:
        raise InvalidInput(f"'{endpoint}' is not {_ENDPOINT_FORM}", field="endpoint")
    if has_ca and not _PREFIXES[parts.scheme]:
        raise InvalidInput(f"a CA is given, but '{endpoint}' asks for plain text; write https://", field="endpoint")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}", _PREFIXES[parts.scheme]
