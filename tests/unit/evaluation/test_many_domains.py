"""Ten thousand domains: scored and drawn in seconds. What grows with their square would take many minutes."""

from __future__ import annotations

import pytest

from baldistill.datasets.examples import Example
from baldistill.specs.methods import PRESETS
from baldistill.tasks.kinds import TaskKind
from services.cli.reporting.markdown import report_markdown
from services.cli.reporting.model import RunReport, StageReport
from services.policy.planning import plan_all_stages
from services.trainer.evaluation.graded import graded
from services.trainer.evaluation.reports import EvaluationReport
from services.trainer.evaluation.scoring import compare_of, evaluation_report

DOMAINS = 10_000
POOL = {f"domain-{number}": 3 + number % 5 for number in range(DOMAINS)}
# The square of so many would take minutes.
pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("kind", list(TaskKind), ids=lambda kind: kind.value)
def test_a_report_over_ten_thousand_domains_is_complete_and_fast(kind: TaskKind) -> None:
    is_labelled = kind in {TaskKind.CLASSIFICATION, TaskKind.MULTI_LABEL}
    items = [
        Example(example_id=f"{name}-{number}", domain=name, input="?", answer=name if is_labelled else "A")
        for name in POOL
        for number in range(2)
    ]
    # Every second item is right: in each domain one of two.
    predictions = [item.answer if item.example_id.endswith("0") else "domain-0" for item in items]
    scored = evaluation_report(
        graded(items, predictions, compare=compare_of(kind)), kind=kind, pool_sizes=POOL, budget=20_000
    )
    drawn = report_markdown(_run_report(scored))
    assert len(scored.domains) == DOMAINS
    assert all(f"| {name} |" in drawn for name in ("domain-0", "domain-9999"))
    assert scored.micro == pytest.approx(
        (DOMAINS + is_labelled) / (2 * DOMAINS)
    )  # domain-0 is always right where it is one


def test_a_plan_over_ten_thousand_domains_is_exact_and_fast() -> None:
    plans = plan_all_stages(method=PRESETS["baldistill_a"], pool=POOL, budget=20_000, stages=3, seed=1)
    assert [sum(domain.required for domain in plan.domains.values()) for plan in plans] == [6_666, 6_667, 6_667]


def _run_report(scored: EvaluationReport) -> RunReport:
    return RunReport(
        name="many",
        run_id="many-1",
        tenant="default",
        state="completed",
        reason="",
        method="baldistill_a",
        target="rationale",
        dataset="many@1",
        base_model="tiny",
        teacher="protocol",
        claims_quality=False,
        budget_examples=20_000,
        planned_calls=20_000,
        pool=POOL,
        tail=frozenset(),
        stages=(StageReport(stage=1, quota=20_000, rows={}, rejections={}, metrics=scored, minutes={}),),
        references={},
        usage=(),
    )
