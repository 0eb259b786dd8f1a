"""A fact's id is its meaning: the same fact published twice has the same id (DESIGN 3)."""

from __future__ import annotations

import uuid

from baldistill.events.facts import Fact

# uuid5 of the DNS namespace and "events.baldistill.v1"; changing it changes every event id.
EVENT_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "events.baldistill.v1")


def event_id(fact: Fact) -> str:
    """Return `uuid5(fact, tenant, run, epoch, stage, key)` as text."""
    meaning = (type(fact).__name__, fact.tenant, fact.run_id, fact.epoch, fact.stage, fact.identity_key())
    return str(uuid.uuid5(EVENT_NAMESPACE, "/".join(str(part) for part in meaning)))
