"""One further round of synthesis for what was rejected, within the calls that a budget has beyond its rows (DESIGN 2.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from baldistill.artifacts.ports import Manifest
from baldistill.events.facts import AnnotationPhase
from services.teacher_gateway.judging import judged_rows
from services.teacher_gateway.stages import Stage
from services.teacher_gateway.verification import RowOutcome


def open_replacements(stage: Stage, *, closed_by: str) -> Manifest | None:
    """Order replacements for what the first round's verdicts reject, or adopt the order that another event made.

    None where nothing is to be replaced. All shards of the first round must be stored. The order is a function of the
    spec and the stored answers: a call that was lost changes nothing of it.
    """
    stored = stage.store.find_manifest(stage.layout.replacements)
    if stored is not None or not stage.replaces:
        return stored
    room = stage.headroom()
    wanted = _rejected_by_domain(stage) if room > 0 else Counter[str]()
    orders: dict[str, int] = {}
    for domain, count in sorted(wanted.items()):
        orders[domain] = min(count, room - sum(orders.values()))
    orders = {domain: count for domain, count in orders.items() if count}
    if not orders:
        return None
    return stage.store.create_manifest(
        Manifest(
            key=stage.layout.replacements,
            files={},
            rows=sum(orders.values()),
            attributes={"closed_by": closed_by, "orders": dict(orders)},
        )
    )


def _rejected_by_domain(stage: Stage) -> Mapping[str, int]:
    assert stage.rows(AnnotationPhase.REPLACE) == 0, "asked for an order that is there"
    return Counter(row["domain"] for row in judged_rows(stage) if row["outcome"] == RowOutcome.REJECTED.value)
