"""The methods that a server answers, taken from what the generated code registers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from baldistill.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundService:
    """A service and who answers it. name: as in the proto, e.g. `baldistill.v1.PolicyService`, also its health face.

    servicer: its methods are plain ones (server streams: generators), or `async def`.
    add: the generated `add_PolicyServiceServicer_to_server`.
    """

    name: str
    servicer: Any
    add: Callable[[Any, Any], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method. method: `/package.Service/Method`."""

    method: str
    handler: grpc.RpcMethodHandler[Any, Any]

    @property
    def behaviour(self) -> Callable[[Any, Any], Any]:
        handler = self.handler
        found = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        assert found is not None
        return found

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.behaviour) or inspect.isasyncgenfunction(self.behaviour)

    def parse(self, raw: bytes) -> Any:
        """Return the request. Raises InvalidInput."""
        assert self.handler.request_deserializer is not None
        try:
            return self.handler.request_deserializer(raw)
        # Generated code raises what it likes.
        except Exception as error:
            name = self.method.rpartition("/")[2]
            raise InvalidInput(f"the request is no {name} request; client and server may differ in version") from error

    def serialise(self, response: Any) -> bytes:
        assert self.handler.response_serializer is not None
        return self.handler.response_serializer(response)


class _Collector:
    """Stands where the generated code expects a server."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        for name, handler in method_handlers.items():
            method = f"/{service_name}/{name}"
            route = Route(method=method, handler=handler)
            if handler.request_streaming and not route.is_async:
                raise TypeError(f"{method} takes a stream of requests: write it as `async def`")
            self.routes[method] = route

    def add_generic_rpc_handlers(self, generic_rpc_handlers: object) -> None:
        """The same methods again, by the older of the two ways that generated code registers them."""


def collect_routes(services: Sequence[BoundService]) -> dict[str, Route]:
    """Return the services' methods by name."""
    collector = _Collector()
    for service in services:
        service.add(service.servicer, collector)
    return collector.routes
