"""`baldistill plan`: every stage and domain, and the most that it can cost, before a cent is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from baldistill.artifacts.schemas import StagePlan
from baldistill.specs.loading import blaming_spec, load_runspec
from baldistill.specs.methods import TailFilling
from baldistill.specs.runspec import RunSpec
from services.cli.home import DEFAULT_HOME, Home, HomeOption, JsonOption
from services.cli.output import RESULTS, print_json, usd
from services.cli.proposals import propose_from
from services.cli.reporting.model import NO_QUALITY_CLAIMS
from services.policy.pricing import PricedPlan, price_plan
from services.policy.submission import Proposal

SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", help="Run spec in YAML; see examples/*.yaml.")]


def priced_plan(spec: RunSpec, *, home: Home, spec_path: Path) -> PricedPlan:
    """Look up everything that a spec names and bound what it can cost. Raises InvalidInput by file, line and field."""
    proposal = propose_from(spec, home=home, spec_path=spec_path)
    with blaming_spec(spec_path):
        return price_plan(proposal)


def plan(
    spec: SpecArgument,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
    domains: Annotated[bool, typer.Option("--domains/--totals", help="List every domain, or totals only.")] = True,
) -> None:
    """Show what a run will ask for, by stage and domain, and the most it can cost. Spends nothing.

    Example: baldistill plan examples/tickets.yaml
    """
    with Home(home) as opened:
        priced = priced_plan(load_runspec(spec), home=opened, spec_path=spec)
        reusable = _reusable(priced, home=opened)
    if as_json:
        print_json(plan_document(priced) | {"reusable_annotations": reusable})
        return
    print_plan(priced, domains=domains)
    if reusable:
        RESULTS.print(
            f"Of the pool, {reusable} items were annotated by this teacher for other runs: those that are selected cost no call.",
            soft_wrap=True,
        )


def _reusable(priced: PricedPlan, *, home: Home) -> int:
    """Return how many items of the pool another run has had annotated by this teacher, where the spec takes such answers."""
    frozen = priced.proposal.frozen
    if frozen.spec.teacher.reuse != "tenant":
        return 0
    # Deferred: it imports the clients of teachers.
    from services.teacher_gateway.composition import count_reusable

    return count_reusable(home.engine, frozen, store=home.store)


def plan_document(priced: PricedPlan) -> dict[str, Any]:
    """Return a plan as plain JSON values. tokens, usd: upper bounds."""
    frozen = priced.proposal.frozen
    return {
        "run_id": frozen.run_id,
        "dataset": frozen.dataset.model_dump(),
        "budget": frozen.spec.budget.model_dump(mode="json"),
        "calls": priced.proposal.planned_calls,
        "tokens_at_most": priced.total.tokens,
        "usd_at_most": priced.total.nano_usd / 1e9,
        "stages": [
            plan.to_json()
            | {
                "annotation_calls": bound.annotation.calls,
                "synthesis_calls": bound.synthesis.calls,
                "tokens_at_most": bound.total.tokens,
                "usd_at_most": bound.total.nano_usd / 1e9,
            }
            for plan, bound in zip(priced.proposal.plans, priced.bounds, strict=True)
        ],
    }


def print_plan(priced: PricedPlan, *, domains: bool) -> None:
    """Draw a plan as tables."""
    if domains and priced.proposal.plans:
        _print_domains(priced.proposal)
    _print_totals(priced)


def _print_domains(proposal: Proposal) -> None:
    table = Table(title=f"Plan of {proposal.frozen.spec.name}: rows by domain and stage", caption=_caption(proposal))
    table.add_column("domain", no_wrap=True)
    for heading in ("pool", "test", *(f"stage {stage.stage}" for stage in proposal.plans), "all"):
        table.add_column(heading, justify="right", no_wrap=True)
    counts = proposal.dataset.domains
    for name in sorted(proposal.plans[0].domains, key=lambda name: (-counts[name].pool, name)):
        cells = [_domain_cell(stage, name) for stage in proposal.plans]
        asked = sum(stage.domains[name].required for stage in proposal.plans)
        total = "any" if proposal.plans[0].pooled else str(asked)
        table.add_row(name, str(counts[name].pool), str(counts[name].test), *cells, total)
    RESULTS.print(table)


def _domain_cell(stage: StagePlan, name: str) -> str:
    """Return `selected/available`, and for a tail domain `selected+filled/available`."""
    domain = stage.domains[name]
    if stage.pooled:
        return f"any/{domain.available}"
    filled = f"+{domain.deficit}" if domain.deficit else ""
    return f"{domain.select}{filled}/{domain.available}"


def _caption(proposal: Proposal) -> str:
    filling = {
        TailFilling.SYNTHESISE: "10+3/10: a tail domain, asked for 13, has 10; the teacher invents 3",
        TailFilling.DUPLICATE: "10+3/10: a tail domain, asked for 13, has 10; 3 rows are repeated",
        TailFilling.NONE: "rows are taken from the pool only",
    }[proposal.frozen.method.tail]
    return f"11/660: 11 rows selected of 660 left; {filling}"


def _print_totals(priced: PricedPlan) -> None:
    frozen, budget = priced.proposal.frozen, priced.proposal.frozen.spec.budget
    table = Table(title="Teacher calls, and the most they can cost")
    for heading in ("stage", "rows", "annotate", "synthesise", "calls", "tokens at most", "cost at most"):
        table.add_column(heading, justify="right")
    for stage, bound in zip(priced.proposal.plans, priced.bounds, strict=True):
        table.add_row(
            str(stage.stage),
            str(stage.quota),
            str(bound.annotation.calls),
            str(bound.synthesis.calls),
            str(bound.total.calls),
            f"{bound.total.tokens:,}",
            usd(bound.total.nano_usd),
        )
    table.add_section()
    rows, total = sum(stage.quota for stage in priced.proposal.plans), priced.total
    table.add_row("all", str(rows), "", "", str(total.calls), f"{total.tokens:,}", usd(total.nano_usd))
    RESULTS.print(table)
    ceilings = [f"{budget.calls} calls"]
    ceilings += [f"{budget.tokens:,} tokens"] if budget.tokens is not None else []
    ceilings += [f"${budget.usd}"] if budget.usd is not None else []
    RESULTS.print(f"Ceilings, never exceeded: {', '.join(ceilings)}.", soft_wrap=True)
    if budget.calls is not None and budget.calls < total.calls:
        RESULTS.print(f"budget.calls is {total.calls - budget.calls} below the plan: the run will end early.")
    if (note := NO_QUALITY_CLAIMS.get(frozen.spec.teacher.kind)) is not None:
        RESULTS.print(note, soft_wrap=True)
