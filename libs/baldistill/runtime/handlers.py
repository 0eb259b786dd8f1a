"""The shape of a handler: it takes a fact and returns the facts that follow (STYLE 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from baldistill.events.facts import Fact

# The argument is the fact type that the table's key names; a mapping cannot express that to the type checker.
Handler: TypeAlias = Callable[[Any], Sequence[Fact]]
HandlerTable: TypeAlias = Mapping[type[Fact], Handler]
PublishFacts: TypeAlias = Callable[[Sequence[Fact]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerGroup:
    """What one consumer group of a service handles. name: e.g. `selector`, `selector-worker`."""

    name: str
    handlers: HandlerTable
