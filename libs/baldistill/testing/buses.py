"""The buses that the contract suite runs over. Kafka comes in here with its own location."""

from __future__ import annotations

from baldistill.bus.in_process import InProcessBus
from baldistill.bus.ports import Bus

BUS_KINDS = ("in_process",)


def open_bus(*, kind: str, partitions: int) -> Bus:
    """Open an empty bus whose topics have `partitions` partitions."""
    if kind == "in_process":
        return InProcessBus(partitions=partitions)
    raise ValueError(f"no bus is called '{kind}'; one of {', '.join(BUS_KINDS)}")
