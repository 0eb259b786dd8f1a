"""How much a server takes on: sizes, time, calls at once."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """request_bytes, response_bytes: largest messages.   longest_unary_s: a unary call's deadline where the caller's is
    later or none.   threads: sync unary calls at work at once.   streams: sync streams at once, a thread each.
    calls_at_once: more than that are refused at once instead of waiting without end.   verify_streams_every_s: how long
    after a token was revoked its open streams may go on, beside what a verifier remembers.
    """

    request_bytes: int = 4 * _MIB
    response_bytes: int = 16 * _MIB
    longest_unary_s: float = 60.0
    threads: int = 16
    streams: int = 64
    calls_at_once: int = 512
    verify_streams_every_s: float = 15.0

    def options(self) -> list[tuple[str, int]]:
        """Return them as options of grpc's core, with those that keep connections alive."""
        return [
            ("grpc.max_receive_message_length", self.request_bytes),
            ("grpc.max_send_message_length", self.response_bytes),
            # Two servers on one port would share its calls silently.
            ("grpc.so_reuseport", 0),
            # Finds callers that vanished without a word, and lets idle ones keep their connection through NAT.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.http2.max_ping_strikes", 0),
        ]
