"""Builders of facts for tests: hypothesis strategies that fill every field by its type."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, get_args, get_type_hints

from hypothesis import strategies as st

from baldistill.artifacts.ports import ArtifactRef
from baldistill.events.facts import FACTS, Fact

_UINT32 = st.integers(min_value=0, max_value=2**32 - 1)
_UINT64 = st.integers(min_value=0, max_value=2**64 - 1)
_WIDE = frozenset({"done", "total"})


def artifact_refs() -> st.SearchStrategy[ArtifactRef]:
    """References with any text and any number that the wire form can hold."""
    return st.builds(ArtifactRef, key=st.text(), sha256=st.text(), size_bytes=_UINT64, rows=_UINT64)


def facts_of(fact_type: type[Fact]) -> st.SearchStrategy[Fact]:
    """Facts of one type, every field drawn by its type."""
    hints = get_type_hints(fact_type)
    fields = {field.name: _field(field.name, hints[field.name]) for field in dataclasses.fields(fact_type)}
    return st.builds(fact_type, **fields)


def facts() -> st.SearchStrategy[Fact]:
    """Facts of any type."""
    return st.sampled_from(FACTS).flatmap(facts_of)


def _field(name: str, hint: Any) -> st.SearchStrategy[Any]:
    if type(None) in get_args(hint):
        present = next(option for option in get_args(hint) if option is not type(None))
        return st.none() | _field(name, present)
    if hint is ArtifactRef:
        return artifact_refs()
    if hint is bool:
        return st.booleans()
    if hint is int:
        return _UINT64 if name in _WIDE else _UINT32
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(list(hint))
    # A fact always names its tenant and its run.
    return st.text(min_size=1 if name in {"tenant", "run_id"} else 0)
