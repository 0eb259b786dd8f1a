from __future__ import annotations

import pytest

from baldistill.errors import InvalidInput
from baldistill.rpc.listening import parse_listen_address


@pytest.mark.parametrize(
    ("address", "parsed"),
    [("127.0.0.1:50051", ("127.0.0.1", 50051)), ("[::1]:0", ("[::1]", 0)), ("localhost:80", ("localhost", 80))],
)
def test_host_and_port_are_told_apart(address: str, parsed: tuple[str, int]) -> None:
    assert parse_listen_address(address, setting="server.listen") == parsed


@pytest.mark.parametrize(
    "address", ["50051", "localhost", "::1:80", ":80", "localhost:http", "localhost:70000", "h:-1"]
)
def test_a_bad_address_is_refused_with_the_settings_name(address: str) -> None:
    with pytest.raises(InvalidInput, match=r"server\.listen"):
        parse_listen_address(address, setting="server.listen")
