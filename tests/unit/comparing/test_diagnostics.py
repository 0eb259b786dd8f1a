"""What scores rank by, what was picked, what was invented: small cases by hand."""

from __future__ import annotations

from typing import Any

import pytest

from services.cli.comparing.diagnostics import score_diagnostics, synthesis_diagnostics


def scored(number: int, *, ifd: float | None, given: float, alone: float, flagged: bool = False) -> dict[str, Any]:
    return {
        "id": f"x{number}",
        "domain": "a" if number < 4 else "b",
        "ifd": ifd,
        "conditioned_nll": given,
        "unconditioned_nll": alone,
        "generated_tokens": 2,
        "hit_length_limit": False,
        "looping": flagged,
    }


SCORES = [
    scored(0, ifd=0.9, given=1.0, alone=1.1),
    scored(1, ifd=0.5, given=2.0, alone=2.7, flagged=True),
    scored(2, ifd=0.2, given=3.0, alone=4.6),
    scored(3, ifd=None, given=0.0, alone=0.0),
    scored(4, ifd=0.1, given=4.0, alone=6.3, flagged=True),
]


def test_scores_say_what_ifd_ranks_by_and_who_was_picked() -> None:
    found = score_diagnostics(SCORES, picked={"x0", "x1", "from-elsewhere"}, seed=1)
    assert (found["candidates"], found["without_answer"], found["picked"]) == (5, 1, 2)
    # Here IFD falls as both NLLs rise: it ranks exactly as -NLL(y) does.
    assert found["spearman_ifd_minus_nll_y"] == pytest.approx(1.0)
    assert found["spearman_ifd_nll_y_given_x"] == pytest.approx(-1.0)
    assert (found["flagged_candidates"], found["flagged_picked"]) == (0.4, 0.5)
    # Two of four candidates of domain a: a random pick of two shares one of them on average.
    assert found["by_chance"] == 0.5
    assert found["overlap_with_random"] in {0.0, 0.5, 1.0}


def test_taking_all_candidates_is_what_random_does_too() -> None:
    found = score_diagnostics(SCORES, picked={f"x{n}" for n in range(5)}, seed=1)
    assert (found["overlap_with_random"], found["by_chance"]) == (1.0, 1.0)


def test_where_the_answer_alone_decides_ifd_it_is_said() -> None:
    by_answer = [scored(n, ifd=0.1 * (1 + n % 2), given=1.0, alone=5.0 - n % 2) for n in range(40)]
    assert score_diagnostics(by_answer, picked=set(), seed=1)["explained_by_answer"] == pytest.approx(1.0)
    by_input = [scored(n, ifd=0.1 * (1 + n // 2 % 2), given=1.0, alone=5.0 - n % 2) for n in range(80)]
    assert score_diagnostics(by_input, picked=set(), seed=1)["explained_by_answer"] == pytest.approx(0.0, abs=0.05)
    assert score_diagnostics(SCORES, picked=set(), seed=1)["explained_by_answer"] is None


def test_nothing_picked_has_no_shares() -> None:
    found = score_diagnostics(SCORES, picked=set(), seed=1)
    assert (found["flagged_picked"], found["overlap_with_random"]) == (None, None)


def test_synthetic_rows_are_checked_where_the_truth_is_known() -> None:
    def row(domain: str, origin: str, text: str, answer: str) -> dict[str, str]:
        return {"domain": domain, "origin": origin, "input": text, "answer": answer}

    rows = [
        row("a", "real", "r1", "a"),
        row("a", "synthetic", "o1", "b"),
        row("a", "synthetic", "o2", "a"),
        row("b", "synthetic", "unknown", "a"),
    ]
    found = synthesis_diagnostics(rows, truth={"o1": "a", "o2": "a"})
    assert found["all"] == {"rows": 4, "synthetic": 3, "checked": 2, "wrong": 1}
    assert found["domains"]["a"] == {"rows": 3, "synthetic": 2, "checked": 2, "wrong": 1}
    assert found["domains"]["b"] == {"rows": 1, "synthetic": 1, "checked": 0, "wrong": 0}
