"""Each metric as ratios of sums: values worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.cli.comparing.outcomes import CREDIT, SHARED_LABELS, CellOutcome, ItemOutcomes
from services.cli.comparing.ratios import ANSWER_NLL, MACRO, MICRO, TAIL, metrics_of
from services.cli.comparing.reading import item_outcomes

ONCE = np.ones((1, 4))


def stored(metric: str, **groups: str) -> dict[str, Any]:
    return {"metric": metric, "domains": {name: {"group": group} for name, group in groups.items()}}


def row(number: int, domain: str, truth: str, prediction: str, nll: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"id": f"t{number}", "domain": domain, "truth": truth, "prediction": prediction, "answer_nll": nll, **more}


SINGLE = [
    row(0, "a", "a", "a", 0.5),
    row(1, "a", "a", "b", 1.5),
    row(2, "b", "b", "b", 2.0),
    row(3, "c", "c", "<none>", 4.0),
]


def values(items: ItemOutcomes, weights: Any = ONCE) -> dict[str, list[float]]:
    return {name: metric.values(np.asarray(weights)).tolist() for name, metric in metrics_of(items).items()}


def test_single_labels_have_f1_over_the_whole_test_set() -> None:
    found = values(item_outcomes(SINGLE, stored=stored("f1", a="head", b="tail", c="tail")))
    # F1: a = 2*1/(2+1), b = 2*1/(1+2), c = 0 although nobody answered c wrongly.
    assert found[MACRO] == pytest.approx([(2 / 3 + 2 / 3 + 0) / 3])
    assert found[MICRO] == [0.5]
    assert found[TAIL] == pytest.approx([(2 / 3 + 0) / 2])
    assert found[ANSWER_NLL] == pytest.approx([(1.0 + 2.0 + 4.0) / 3])


def test_weights_count_an_item_as_often_as_they_say() -> None:
    items = item_outcomes(SINGLE, stored=stored("f1", a="head", b="tail", c="tail"))
    twice_the_wrong_one = [[0, 2, 1, 1]]
    found = values(items, twice_the_wrong_one)
    # a: none right; b: 2*1/(1+3), c: 0.
    assert found[MACRO] == pytest.approx([(0 + 0.5 + 0) / 3])
    assert found[MICRO] == [0.25]


def test_a_row_without_weight_is_left_out_of_the_mean() -> None:
    items = item_outcomes(SINGLE, stored=stored("f1", a="head", b="head", c="head"))
    assert values(items, [[1, 0, 1, 0]])[MACRO] == [1.0]
    assert TAIL not in metrics_of(items)


def test_sets_of_labels_count_each_part_and_what_is_no_label() -> None:
    rows = [
        row(0, "x", "x; y", "x"),
        row(1, "y", "y", "y; nonsense"),
        row(2, "x", "x", "<none>"),
        row(3, "y", "y; x", "x; y"),
    ]
    items = item_outcomes(rows, stored=stored("set", x="head", y="head"))
    assert (items.kind, items.unknown) == (SHARED_LABELS, (0, 1, 1, 0))
    found = values(items)
    # x: carried 3, predicted 2, right 2; y: carried 3, predicted 2, right 2.
    assert found[MACRO] == pytest.approx([0.8])
    # Two times 4 right by 6 carried and 4 + 2 predicted.
    assert found[MICRO] == pytest.approx([8 / 12])


def test_credit_is_averaged_within_domains() -> None:
    rows = [
        row(0, "p", "4", "4", credit=1.0),
        row(1, "p", "5", "x", credit=0.0),
        row(2, "p", "6", "y", credit=0.25),
        row(3, "q", "7", "7", credit=1.0),
    ]
    items = item_outcomes(rows, stored=stored("word_f1", p="head", q="tail"))
    assert (items.kind, items.truth) == (CREDIT, ())
    found = values(items)
    assert found[MACRO] == pytest.approx([(1.25 / 3 + 1) / 2])
    assert found[MICRO] == pytest.approx([2.25 / 4])
    assert found[TAIL] == [1.0]


def test_an_outcome_survives_json_without_any_text_of_the_data() -> None:
    items = item_outcomes(SINGLE, stored=stored("f1", a="head", b="tail", c="tail"))
    outcome = CellOutcome(
        name="n",
        row="random_ft",
        method="random_ft",
        target="label",
        seed=1,
        noise=0.0,
        teacher="oracle",
        state="completed",
        metric="f1",
        test_items=4,
        scores={"macro": 0.4},
        domains={},
        calls=0,
        trained_rows=4,
        minutes=1.0,
        items=items,
        diagnostics={},
    )
    assert CellOutcome.from_json(outcome.to_json()) == outcome
    assert items.digest != item_outcomes(SINGLE[::-1], stored=stored("f1", a="head")).digest
