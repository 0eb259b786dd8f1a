"""The rules of the monitoring component as values: what is recorded, which alert compares what with which number."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

RULES = Path("k8s/components/monitoring/rules.yaml")
ALERT_TESTS = Path("k8s/tests/monitoring/alerts.yaml")

# What neither a stack without GPUs nor one without a cluster's exporters has: shown by promtool's recorded series alone.
RECORDED_ONLY = frozenset({"baldistill:gpu_used:ratio10m"})

# An alert compares one recorded series with one number: without its comparison it is what it looks at.
_COMPARISON = re.compile(
    r"^(?P<series>(?P<name>baldistill:[a-z0-9_]+:[a-z0-9_]+)(\{[^}]*\})?) (<|<=|>|>=|==) -?[0-9.]+$"
)


class BadRule(Exception):
    """A rule is not as rules are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One recorded series and what it is computed from."""

    name: str
    expr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. series: its expression without the comparison.   recorded: the series' name."""

    name: str
    expr: str
    series: str
    recorded: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All rules, and the document that promtool reads."""

    recordings: Sequence[Recording]
    alerts: Sequence[Alert]
    document: Mapping[str, Any]


def read_rules(path: Path = RULES) -> Rules:
    """Read the PrometheusRule. Raises BadRule for an alert that is no comparison of a recorded series."""
    document = yaml.safe_load(path.read_text())["spec"]
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    recordings = [Recording(name=rule["record"], expr=rule["expr"]) for rule in rules if "record" in rule]
    alerts = [_alert(rule) for rule in rules if "alert" in rule]
    unknown = {alert.recorded for alert in alerts} - {recording.name for recording in recordings}
    if unknown:
        raise BadRule(f"alerts look at series that are not recorded: {', '.join(sorted(unknown))}")
    return Rules(recordings=recordings, alerts=alerts, document=document)


def alerts_under_test(path: Path = ALERT_TESTS) -> tuple[set[str], set[str]]:
    """Return the alerts that are seen to fire, and those that are seen not to."""
    cases = [case for test in yaml.safe_load(path.read_text())["tests"] for case in test.get("alert_rule_test", [])]
    firing = {case["alertname"] for case in cases if case["exp_alerts"]}
    return firing, {case["alertname"] for case in cases if not case["exp_alerts"]}


def _alert(rule: Mapping[str, Any]) -> Alert:
    found = _COMPARISON.match(rule["expr"])
    if found is None:
        raise BadRule(f"{rule['alert']}: `{rule['expr']}` does not compare one recorded series with a number")
    return Alert(
        name=rule["alert"],
        expr=rule["expr"],
        series=found["series"],
        recorded=found["name"],
        labels=rule["labels"],
        annotations=rule["annotations"],
    )
