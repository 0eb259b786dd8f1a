"""Where a server listens: `host:port`, checked before grpc says something that nobody understands."""

from __future__ import annotations

from baldistill.errors import BalDistillError, InvalidInput

_LARGEST_PORT = 65535


class ListenFailed(BalDistillError):
    """The address is sound, but not to be had."""

    exit_code = 69  # EX_UNAVAILABLE

    def __init__(self, *, address: str, setting: str, reason: str) -> None:
        super().__init__(
            f"cannot listen on {address}: {reason}; stop what listens there, or set {setting} to another address"
            " (port 0 takes a free one)"
        )
        self.address = address


def parse_listen_address(address: str, *, setting: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[v6 host]:port`. Raises InvalidInput, which names the setting."""
    host, colon, port_text = address.rpartition(":")
    if not colon or not host or (":" in host and not host.startswith("[")):
        raise InvalidInput(f"'{address}' is not host:port, e.g. 127.0.0.1:50051 or [::1]:50051", field=setting)
    if not port_text.isdecimal() or int(port_text) > _LARGEST_PORT:
        raise InvalidInput(f"'{port_text}' is not a port, which is a number from 0 to 65535", field=setting)
    return host, int(port_text)
