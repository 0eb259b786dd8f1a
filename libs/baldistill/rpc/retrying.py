"""Which calls are repeated by themselves while a server is away: those whose repetition changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence

from baldistill.v1 import policy_pb2, selector_pb2, teacher_gateway_pb2, trainer_pb2

# What a method's first word promises by itself.
_QUESTIONS = ("Get", "List", "Preview", "Verify", "Explain")
# Idempotent by their comments in protos/. ResumeRun adds budget, Complete buys: never here.
_REPEATABLE_COMMANDS = frozenset(
    {"SubmitRun", "PauseRun", "CancelRun", "ScoreExamples", "EvaluateStudent", "PromoteStudent"}
)
_FILES = (policy_pb2, selector_pb2, teacher_gateway_pb2, trainer_pb2)

# grpc allows 5 attempts at most. Together they wait about 3 s: a server's restart.
_RETRY_POLICY = {
    "maxAttempts": 5,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def idempotent_methods() -> Sequence[tuple[str, str]]:
    """Return service and method of every call that may be repeated."""
    return [
        (service.full_name, method.name)
        for file in _FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if method.name.startswith(_QUESTIONS) or method.name in _REPEATABLE_COMMANDS
    ]


def service_config() -> str:
    """Return grpc's service config, as JSON."""
    names = [{"service": service, "method": method} for service, method in idempotent_methods()]
    # A name that stands for several replicas: calls go to each in turn. gRPC's default stays with the first that answers.
    spread: list[dict[str, dict[str, str]]] = [{"round_robin": {}}]
    return json.dumps({"loadBalancingConfig": spread, "methodConfig": [{"name": names, "retryPolicy": _RETRY_POLICY}]})
