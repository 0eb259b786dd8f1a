"""Choosing out of a stream is choosing out of the whole, however long the stream and small the choice."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.selector.sampling import smallest_per_group


# A busy machine draws permutations slowly; that says nothing about what is tested.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.permutations(range(700)),
    st.dictionaries(st.integers(0, 3), st.sampled_from([0, 1, 5, 100, 400]), min_size=1),
)
def test_the_smallest_of_each_group_are_found_in_any_order(ranks: list[int], wanted: dict[int, int]) -> None:
    def group(number: int) -> int:
        return 0 if number % 2 else number % 4 + 1

    chosen = smallest_per_group(ranks, wanted=wanted, group=group, rank=lambda number: number)
    assert chosen == {name: sorted(n for n in ranks if group(n) == name)[:count] for name, count in wanted.items()}
