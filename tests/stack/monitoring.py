"""`make monitoring-check`: real runs on the local stack, and whether every panel and alert has something to look at.

Every charted expression, and every alert's expression without its comparison, is asked of the Prometheus that scraped
the stack meanwhile; `budget show` has to say what the panels do, with two gateways; and the alert at 80 % has to fire.

    python -m tests.stack.monitoring [--pictures docs/monitoring]
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.monitoring.asking import Series, ask_over
from scripts.monitoring.charted import Charted, charted, filled, panels
from scripts.monitoring.pictures import draw
from scripts.monitoring.rules import RECORDED_ONLY, read_rules
from tests.stack.monitored_run import Monitored, monitored_stack
from tests.stack.waiting import wait_until

_RUNS = 2
_LABEL = re.compile(r"\{\{(\w+)\}\}")
# Units of the ledger: the metric's name for each, and the ledger's integers in one of the metric's.
_SPENT: Mapping[str, tuple[str, int]] = {"calls": ("calls", 1), "tokens": ("tokens", 1), "nano_usd": ("usd", 10**9)}
_FIRING = 'ALERTS{alertname="BalDistillBudgetNearlySpent",alertstate="firing",unit="calls"}'
_FIRING_PATIENCE_S = 180.0
# Gauges lag behind the ledger by a scrape and no more.
_SPENT_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An expression and what a real Prometheus answered."""

    where: Charted
    series: Sequence[Series]

    @property
    def has_data(self) -> bool:
        """NaN, as of a quantile over nothing, is no data."""
        return any(math.isfinite(value) for one in self.series for _, value in one.points)

    @property
    def unnamed(self) -> list[str]:
        """Return the labels that the legend reads and some series lacks: its line would have no name."""
        read = _LABEL.findall(self.where.legend)
        return [label for label in read if any(label not in one.labels for one in self.series)]

    @property
    def is_recorded_only(self) -> bool:
        return self.where.expr in RECORDED_ONLY

    def line(self) -> str:
        """Return one line for a person."""
        return f"{self.where.dashboard} / {self.where.panel}: {self.where.expr}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """All answers. differences: between Prometheus and the ledger, a line each."""

    shown: Sequence[Shown]
    differences: Sequence[str]
    has_fired: bool
    seconds: float

    @property
    def empty(self) -> list[Shown]:
        return [one for one in self.shown if not one.has_data and not one.is_recorded_only]

    @property
    def unnamed(self) -> list[Shown]:
        return [one for one in self.shown if one.unnamed]

    @property
    def is_broken(self) -> bool:
        return bool(self.empty or self.unnamed or self.differences or not self.has_fired)

    def lines(self) -> Iterator[str]:
        """Yield what a person should see, the RESULT line last."""
        recorded = [one for one in self.shown if one.is_recorded_only]
        yield from (f"by recorded series in promtool's tests alone: {one.line()}" for one in recorded)
        yield from (f"NO DATA: {one.line()}" for one in self.empty)
        yield from (f"NO LABEL {', '.join(one.unnamed)} for its legend: {one.line()}" for one in self.unnamed)
        yield from (f"DIFFERENT: {one}" for one in self.differences)
        values = {
            "expressions": len(self.shown),
            "with_data": sum(one.has_data for one in self.shown),
            "recorded_only": len(recorded),
            "without_data": len(self.empty),
            "without_label": len(self.unnamed),
            "ledger_differences": len(self.differences),
            "alert_fired": int(self.has_fired),
            "seconds": round(self.seconds),
        }
        yield "RESULT " + " ".join(f"{name}={value}" for name, value in values.items())


def main() -> int:
    """Run, ask, draw; fail where an expression has no data or a spent panel is not what the ledger says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="folder to draw each dashboard's answers into, as PNG")
    parser.add_argument("--student", default="", help="a base model that learns, for pictures; default: a tiny one")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as temporary,
        monitored_stack(Path(temporary), student=arguments.student) as monitored,
    ):
        checked = check(monitored)
    for line in checked.lines():
        sys.stdout.write(f"{line}\n")
    if arguments.pictures is not None:
        draw(panels(), {one.where: one.series for one in checked.shown}, into=arguments.pictures)
    return 1 if checked.is_broken else 0


def check(monitored: Monitored) -> Checked:
    """Make runs and calls, and ask for everything that may be looked at."""
    began_s = time.time()
    monitored.give_tenant_a_budget()
    monitored.publish_garbage()
    runs = []
    for number in range(_RUNS):
        runs.append(monitored.run_to_the_end(number))
        monitored.call_and_fail()
    differences = [one for run_id in (*runs, "") for one in ledger_differences(monitored, run_id=run_id)]
    has_fired = fires_at_80_percent(monitored)
    shown = [_answered(monitored, one, began_s=began_s) for one in [*charted(), *_looked_at_by_alerts()]]
    return Checked(shown=shown, differences=differences, has_fired=has_fired, seconds=time.time() - began_s)


def ledger_differences(monitored: Monitored, *, run_id: str) -> list[str]:
    """Compare what Prometheus sums over both gateways with `budget show`. run_id: empty = the tenant."""
    truth = monitored.spent_by(run_id)
    give_up_at = time.monotonic() + _SPENT_PATIENCE_S
    while (found := _differences(monitored, truth, run_id=run_id)) and time.monotonic() < give_up_at:
        time.sleep(1)
    return found


def fires_at_80_percent(monitored: Monitored) -> bool:
    """Lower the tenant's ceiling until nine tenths are spent, and wait for the page."""
    monitored.lower_tenant_budget(calls=monitored.spent_by()["calls"] * 10 // 9)
    try:
        wait_until(lambda: _asked_now(monitored, _FIRING), timeout_s=_FIRING_PATIENCE_S)
    except AssertionError:
        return False
    return True


def _looked_at_by_alerts() -> list[Charted]:
    return [
        Charted(dashboard="alerts", panel=alert.name, expr=alert.series, legend="") for alert in read_rules().alerts
    ]


def _answered(monitored: Monitored, one: Charted, *, began_s: float) -> Shown:
    now_s = time.time()
    start_s = now_s if one.is_instant else began_s
    return Shown(where=one, series=ask_over(monitored.prometheus.url, filled(one.expr), start_s=start_s, end_s=now_s))


def _differences(monitored: Monitored, truth: Mapping[str, int], *, run_id: str) -> list[str]:
    found = []
    for unit, (name, size) in _SPENT.items():
        expr = f'sum(baldistill_teacher_gateway_budget_spent_{name}{{tenant="default",run="{run_id}"}})'
        sums = [round(one.last * size) for one in _asked_now(monitored, expr)]
        if sums != [truth[unit]]:
            found.append(f"{run_id or 'tenant'}: Prometheus sums {sums} {unit}, the ledger has {truth[unit]}")
    return found


def _asked_now(monitored: Monitored, expr: str) -> list[Series]:
    now_s = time.time()
    return ask_over(monitored.prometheus.url, expr, start_s=now_s, end_s=now_s)


if __name__ == "__main__":
    sys.exit(main())
