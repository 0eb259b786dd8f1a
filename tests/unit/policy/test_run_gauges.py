"""What policy shows of runs: where they are, how quiet, their plans and scores, the newest runs in detail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from baldistill.artifacts.layout import RunLayout
from baldistill.artifacts.ports import Manifest
from baldistill.telemetry.declarations import Metric, Sample
from baldistill.telemetry.metrics import (
    POLICY_DOMAIN_SCORE,
    POLICY_LETTERS,
    POLICY_PLANNED,
    POLICY_QUIET,
    POLICY_SCORE,
    POLICY_SCORE_CHANGE,
    POLICY_STAGE,
)
from services.policy.reconciling import LastSightings
from services.policy.run_gauges import RunGauges, with_every_state

from .conftest import Policy


class Letters:
    """Only what is read here."""

    def count_waiting(self) -> dict[str, int]:
        return {"rare": 1, "often": 7}


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def gauges_of(policy: Policy, clock: Clock | None = None) -> RunGauges:
    sightings = LastSightings(monotonic=clock or Clock())
    letters: Any = Letters()
    return RunGauges(
        registry=policy.registry, letters=letters, topics=["never"], sightings=sightings, store=policy.store
    )


def measured(policy: Policy, stage: int, *, macro: float | None, domains: Mapping[str, float | None]) -> None:
    """Leave the metrics that a stage leaves."""
    group = {"macro": None, "micro": None}
    report = {
        "macro": macro,
        "micro": macro,
        "groups": {"head": group | {"macro": 0.9}, "tail": group},
        "domains": {
            name: {"pool": len(name), "score": score, "group": "tail" if name == "rare" else "head"}
            for name, score in domains.items()
        },
    }
    layout = RunLayout(tenant=policy.identity["tenant"], run_id=policy.identity["run_id"]).stage(stage)
    data = json.dumps({"stage": stage, "report": report}).encode()
    ref = policy.store.put_bytes(folder=layout.folder, name="metrics.json", data=data, rows=1)
    policy.store.create_manifest(Manifest(key=layout.metrics, files={"metrics": ref}, rows=1))


def values(samples: list[Sample], metric: Metric) -> dict[tuple[str, ...], float]:
    """Return the samples of one metric by their labels after tenant and run."""
    return {sample.labels[2:]: sample.value for sample in samples if sample.metric is metric}


def test_a_run_shows_its_stage_and_how_long_nothing_was_heard_of_it(policy: Policy) -> None:
    clock = Clock()
    gauges = gauges_of(policy, clock)
    policy.handle(policy.submit())
    gauges.standing()
    clock.now_s += 90
    samples = gauges.standing()
    assert values(samples, POLICY_STAGE) == {("running",): 1}
    assert values(samples, POLICY_QUIET) == {(): 90.0}


def test_scores_and_plans_are_shown_by_stage_and_domain(policy: Policy) -> None:
    gauges = gauges_of(policy)
    policy.handle(policy.submit())
    assert values(gauges.details(), POLICY_SCORE) == {}
    measured(policy, 0, macro=0.1, domains={"big": 0.2, "rare": None})
    samples = gauges.details()
    assert values(samples, POLICY_SCORE) == {
        ("0", "all", "macro"): 0.1,
        ("0", "all", "micro"): 0.1,
        ("0", "head", "macro"): 0.9,
    }
    assert values(samples, POLICY_DOMAIN_SCORE) == {("0", "big", "head"): 0.2}
    planned = values(samples, POLICY_PLANNED)
    assert {domain for _, domain in planned} == {"big", "rare"}
    assert sum(planned.values()) == 3


def test_a_student_is_compared_with_the_best_one_before_and_not_with_the_zero_shot_one(policy: Policy) -> None:
    gauges = gauges_of(policy)
    policy.handle(policy.submit())
    measured(policy, 0, macro=0.9, domains={})
    measured(policy, 1, macro=0.6, domains={})
    assert values(gauges.details(), POLICY_SCORE_CHANGE) == {}
    policy.handle(policy.trained(1))
    measured(policy, 2, macro=0.5, domains={})
    (change,) = values(gauges.details(), POLICY_SCORE_CHANGE).values()
    assert round(change, 6) == -0.1


def test_only_the_newest_runs_are_shown_in_detail(policy: Policy) -> None:
    gauges = gauges_of(policy)
    for number in range(11):
        policy.handle(policy.submit(name=f"run-{number}"))
    assert len(values_by_run(gauges.standing(), POLICY_STAGE)) == 11
    assert len(values_by_run(gauges.details(), POLICY_PLANNED)) == 10


def values_by_run(samples: list[Sample], metric: Metric) -> set[str]:
    return {sample.labels[1] for sample in samples if sample.metric is metric}


def test_dead_letters_that_wait_are_counted_the_most_first(policy: Policy) -> None:
    assert gauges_of(policy).letters() == [
        Sample(metric=POLICY_LETTERS, value=7, labels=("often",)),
        Sample(metric=POLICY_LETTERS, value=1, labels=("rare",)),
        Sample(metric=POLICY_LETTERS, value=0, labels=("never",)),
    ]


def test_a_state_in_which_no_run_is_is_counted_as_none() -> None:
    counts = with_every_state({("often", "running"): 5, ("rare", "paused"): 1})
    assert (counts["often", "running"], counts["often", "blocked"], counts["rare", "paused"]) == (5, 0, 1)
    assert len(counts) == 14
