"""How long threads wait awake."""

from __future__ import annotations

import pytest

from baldistill.runtime.thread_waits import with_short_waits


def test_threads_wait_awake_for_a_moment_where_nothing_is_said() -> None:
    found = with_short_waits({"HOME": "/home"})
    assert found.pop("GOMP_SPINCOUNT").isdigit()
    assert found == {"HOME": "/home"}


@pytest.mark.parametrize(
    "said", [{"OMP_WAIT_POLICY": "PASSIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}]
)
def test_who_says_how_threads_wait_has_it_so(said: dict[str, str]) -> None:
    assert with_short_waits(said) == said
