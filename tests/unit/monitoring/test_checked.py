"""When `make monitoring-check` says no."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from scripts.monitoring.asking import Series
from scripts.monitoring.charted import Charted
from scripts.monitoring.rules import RECORDED_ONLY
from tests.stack.monitoring import Checked, Shown

WHERE = Charted(dashboard="d", panel="p", expr="x", legend="{{run}}")
SERIES = Series(labels={"run": "r"}, points=[(0.0, math.nan), (5.0, 1.0)])
SOUND = Checked(shown=[Shown(where=WHERE, series=[SERIES])], differences=[], has_fired=True, seconds=1)


def broken(shown: Shown) -> Checked:
    return replace(SOUND, shown=[*SOUND.shown, shown])


def test_data_with_labels_and_the_ledgers_figures_is_sound() -> None:
    assert not SOUND.is_broken


@pytest.mark.parametrize(
    ("checked", "said"),
    [
        (broken(Shown(where=WHERE, series=[])), "NO DATA: d / p: x"),
        (
            broken(Shown(where=WHERE, series=[Series(labels={"run": "r"}, points=[(0.0, math.nan)])])),
            "NO DATA: d / p: x",
        ),
        (
            broken(Shown(where=WHERE, series=[SERIES, Series(labels={}, points=[(0.0, 1.0)])])),
            "NO LABEL run for its legend: d / p: x",
        ),
        (replace(SOUND, differences=["one"]), "DIFFERENT: one"),
        (replace(SOUND, has_fired=False), "RESULT"),
    ],
    ids=["nothing", "NaN", "a line without its name", "not the ledger's figure", "an alert that does not fire"],
)
def test_what_is_lacking_is_told(checked: Checked, said: str) -> None:
    assert checked.is_broken
    assert any(line.startswith(said) for line in checked.lines())


def test_what_no_stack_here_has_is_named_and_no_fault() -> None:
    (name,) = RECORDED_ONLY
    checked = broken(Shown(where=replace(WHERE, expr=name), series=[]))
    assert not checked.is_broken
    assert any(name in line for line in checked.lines())
