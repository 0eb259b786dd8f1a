"""A member's pump outlives whatever the client library comes up with: a worker must never wait for a thread that is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from baldistill.bus.kafka.buffer import Place
from baldistill.bus.kafka.clients import KafkaClients
from baldistill.bus.kafka.consumer import KafkaGroupConsumer
from baldistill.bus.kafka.member import GroupMember
from baldistill.errors import DependencyUnavailable
from baldistill.settings import KafkaSettings


class BreakingClients(KafkaClients):
    """Clients whose library raises what it never said it would. tried: how often a member was asked for."""

    def __init__(self) -> None:
        super().__init__(KafkaSettings(bootstrap_servers="127.0.0.1:1"), client_id="test")
        self.tried = threading.Semaphore(0)

    def member(self, *, group: str, busy: Callable[[], Sequence[Place]]) -> GroupMember:
        self.tried.release()
        raise RuntimeError("event loop is closed")


def test_an_error_that_nobody_expects_is_told_to_the_worker_and_joining_is_tried_again() -> None:
    clients = BreakingClients()
    consumer = KafkaGroupConsumer(clients, group="g", topics=["t"])
    try:
        for _ in range(2):
            assert clients.tried.acquire(timeout=10)
        with pytest.raises(DependencyUnavailable, match="joining: event loop is closed"):
            consumer.poll(timeout_s=10)
    finally:
        consumer.close()
