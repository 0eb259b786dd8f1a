"""What policy shows of runs in Prometheus: where they are, how long nothing was heard of them, plans and scores."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from baldistill.artifacts.layout import RunLayout
from baldistill.artifacts.ports import ArtifactStore
from baldistill.artifacts.schemas import StagePlan
from baldistill.events.facts import RunState
from baldistill.telemetry.declarations import Sample
from baldistill.telemetry.metrics import (
    MOST_DETAILED_DOMAINS,
    MOST_DETAILED_RUNS,
    MOST_DETAILED_STAGES,
    MOST_REPORTED_RUNS,
    POLICY_DOMAIN_SCORE,
    POLICY_LETTERS,
    POLICY_PLANNED,
    POLICY_QUIET,
    POLICY_SCORE,
    POLICY_SCORE_CHANGE,
    POLICY_STAGE,
    POLICY_STEP,
)
from baldistill.telemetry.process_metrics import ProcessMetrics
from services.policy.letters import DeadLetterBox
from services.policy.ports import RunRecord, RunRegistry
from services.policy.reconciling import LastSightings
from services.policy.student_scores import StageFiles, StageScores, change_of_macro
from services.policy.timing import step_seconds

_DAY_S = 24 * 3600.0


class Turn(Protocol):
    """Tells whether this replica is the one that reports (database/turns.py)."""

    @property
    def is_ours(self) -> bool: ...


class RunGauges:
    """Reads the gauges of runs. Each method is read by one scrape at a time. topics: whose dead letters there can be."""

    def __init__(
        self,
        *,
        registry: RunRegistry,
        letters: DeadLetterBox,
        topics: Sequence[str],
        sightings: LastSightings,
        store: ArtifactStore,
    ) -> None:
        self._registry = registry
        self._letters = letters
        self._topics = topics
        self._sightings = sightings
        self._files = StageFiles(store)
        self._reading = threading.Lock()

    def standing(self) -> list[Sample]:
        """Return where runs are, newest first, and how quiet those are that should work."""
        samples = []
        for run in self._registry.watched(most=MOST_REPORTED_RUNS, ended_within_s=_DAY_S):
            who = (run.tenant, run.run_id)
            samples.append(Sample(metric=POLICY_STAGE, value=run.stage, labels=(*who, run.state.value)))
            if run.state is RunState.RUNNING:
                samples.append(Sample(metric=POLICY_QUIET, value=self._sightings.quiet_s(run), labels=who))
        return samples

    def letters(self) -> list[Sample]:
        """Return the dead letters that wait, also where there are none: an absent series would look like an outage."""
        found = self._letters.count_waiting()
        counts = sorted((dict.fromkeys(self._topics, 0) | found).items(), key=lambda one: -one[1])
        return [Sample(metric=POLICY_LETTERS, value=count, labels=(topic,)) for topic, count in counts]

    def details(self) -> list[Sample]:
        """Return plans and scores of the newest runs."""
        with self._reading:
            runs = self._registry.watched(most=MOST_DETAILED_RUNS, ended_within_s=_DAY_S)
            self._files.keep_only([_layout(run) for run in runs])
            return [sample for run in runs for sample in self._details(run)]

    def _details(self, run: RunRecord) -> Iterable[Sample]:
        who = (run.tenant, run.run_id)
        last = max(0, run.stage - MOST_DETAILED_STAGES + 1)
        stages = range(last, run.stage + 1)
        scores = self._files.scores(_layout(run), stages)
        for one in scores:
            yield from _score_samples(who, one)
        for plan in self._files.plans(_layout(run), stages):
            yield from _plan_samples(who, plan)
        timeline = self._registry.timeline(tenant=run.tenant, run_id=run.run_id)
        for step, seconds in step_seconds(timeline, stages=run.stage).items():
            yield Sample(metric=POLICY_STEP, value=seconds, labels=(*who, step))
        change = change_of_macro(scores)
        if change is not None:
            yield Sample(metric=POLICY_SCORE_CHANGE, value=change, labels=who)


def report_run_details(metrics: ProcessMetrics, gauges: RunGauges, *, turn: Turn) -> None:
    """Report the gauges of runs while the turn is ours."""
    metrics.measure([POLICY_STAGE, POLICY_QUIET], lambda: gauges.standing() if turn.is_ours else [])
    metrics.measure([POLICY_LETTERS], lambda: gauges.letters() if turn.is_ours else [])
    metrics.measure(
        [POLICY_SCORE, POLICY_SCORE_CHANGE, POLICY_DOMAIN_SCORE, POLICY_PLANNED, POLICY_STEP],
        lambda: gauges.details() if turn.is_ours else [],
    )


def with_every_state(counts: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """Return numbers of runs by (tenant, state) with those states of which a tenant has none, tenants in the same order."""
    tenants = dict.fromkeys(tenant for tenant, _ in counts)
    return {(tenant, state.value): counts.get((tenant, state.value), 0) for tenant in tenants for state in RunState}


def _score_samples(who: tuple[str, str], scores: StageScores) -> Iterable[Sample]:
    stage = str(scores.stage)
    for (group, mean), value in scores.means.items():
        yield Sample(metric=POLICY_SCORE, value=value, labels=(*who, stage, group, mean))
    biggest = sorted(scores.domains.items(), key=lambda one: (-one[1].pool, one[0]))[:MOST_DETAILED_DOMAINS]
    for name, domain in biggest:
        if domain.score is not None:
            labels = (*who, stage, name, domain.group)
            yield Sample(metric=POLICY_DOMAIN_SCORE, value=domain.score, labels=labels)


def _plan_samples(who: tuple[str, str], plan: StagePlan) -> Iterable[Sample]:
    # A pooled plan does not divide its quota.
    wanted = {} if plan.pooled else plan.domains
    biggest = sorted(wanted.items(), key=lambda one: (-one[1].available, one[0]))[:MOST_DETAILED_DOMAINS]
    for name, domain in biggest:
        yield Sample(metric=POLICY_PLANNED, value=domain.required, labels=(*who, str(plan.stage), name))


def _layout(run: RunRecord) -> RunLayout:
    return RunLayout(tenant=run.tenant, run_id=run.run_id)
