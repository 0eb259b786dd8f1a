"""A stage's training rows, put together from what was answered, and the count of what became of each request."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from baldistill.artifacts.ports import ArtifactRef, JsonValue, Manifest
from baldistill.artifacts.schemas import ANNOTATIONS, BATCH, StagePlan
from baldistill.artifacts.tables import store_table
from baldistill.events.facts import AnnotationPhase
from baldistill.specs.methods import TailFilling
from services.teacher_gateway.judging import NEAR_DUPLICATES, judged_rows
from services.teacher_gateway.stages import Stage
from services.teacher_gateway.verification import BUDGET_EXHAUSTED, RowOutcome

REAL, SYNTHETIC, DUPLICATE = "real", "synthetic", "duplicate"


@dataclass(slots=True)
class DomainTally:
    """What became of one domain's requests and rows in one stage."""

    asked: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    trained: Counter[str] = field(default_factory=Counter)
    replacements: int = 0
    reused: int = 0

    def count(self, row: Mapping[str, Any]) -> bool:
        """Count one answered or unanswered request. Return whether it was accepted."""
        self.asked += 1
        outcome = RowOutcome(row["outcome"])
        if outcome is RowOutcome.ACCEPTED:
            self.accepted += 1
        else:
            (self.rejected if outcome is RowOutcome.REJECTED else self.unanswered)[row["reason"]] += 1
        return outcome is RowOutcome.ACCEPTED

    def to_json(self) -> dict[str, JsonValue]:
        """Return plain values; `trained` is a number of rows, `origins` how they came about, `replacements` and `reused`
        (answers that another run paid for) are parts of asked.
        """
        return {
            "asked": self.asked,
            "replacements": self.replacements,
            "reused": self.reused,
            "accepted": self.accepted,
            "rejected": dict(sorted(self.rejected.items())),
            "unanswered": self.unanswered.total(),
            "unanswered_reasons": dict(sorted(self.unanswered.items())),
            "trained": self.trained.total(),
            "origins": dict(sorted(self.trained.items())),
        }


def close_batch(stage: Stage, *, closed_by: str) -> Manifest:
    """Store the stage's batch, or adopt the one that another event closed. All its shards must be stored."""
    tallies: defaultdict[str, DomainTally] = defaultdict(DomainTally)
    for domain in stage.plan.domains:
        tallies[domain] = DomainTally()
    judged = judged_rows(stage)
    rows = list(_batch_rows(stage, tallies, judged=judged))
    for domain, count in stage.replacements().items():
        tallies[domain].replacements = count
    for domain, count in stage.reused().items():
        tallies[domain].reused = count
    for row in rows:
        tallies[row["domain"]].trained[row["origin"]] += 1
    exhausted = any(BUDGET_EXHAUSTED in tally.unanswered for tally in tallies.values())
    file = store_table(stage.store, folder=stage.layout.folder, name="batch", schema=BATCH, rows=rows)
    return stage.store.create_manifest(
        Manifest(
            key=stage.layout.batch,
            files={"batch": file, **_kept_verdicts(stage, judged)},
            rows=file.rows,
            attributes={
                "closed_by": closed_by,
                "budget_exhausted": exhausted,
                "domains": {name: tally.to_json() for name, tally in sorted(tallies.items())},
            },
        )
    )


def _kept_verdicts(stage: Stage, judged: Sequence[Mapping[str, Any]]) -> Mapping[str, ArtifactRef]:
    """Store all synthesised rows with their verdicts, where these are not those of the shards: near-duplicates too are kept."""
    if stage.frozen.spec.synthesis.checks != "full" or not judged:
        return {}
    return {
        "judged": store_table(stage.store, folder=stage.layout.folder, name="judged", schema=ANNOTATIONS, rows=judged)
    }


def near_duplicates_of(batch: Manifest) -> Iterator[str]:
    """Yield the reason of each row that was rejected when the stage was closed."""
    domains = batch.attributes["domains"]
    assert isinstance(domains, Mapping)
    for reason, count in sorted(_reasons(domains, "rejected").items()):
        yield from [reason] * (count if reason in NEAR_DUPLICATES else 0)


def failure_of(batch: Manifest, *, stage: int) -> str | None:
    """Return why a stage's batch is a verdict about data, or None where the run can go on with it."""
    domains = batch.attributes["domains"]
    assert isinstance(domains, Mapping)
    asked = sum(int(str(tally["asked"])) for tally in domains.values() if isinstance(tally, Mapping))
    if batch.rows or not asked:
        return None
    rejected, unanswered = _reasons(domains, "rejected"), _reasons(domains, "unanswered_reasons")
    if rejected:
        return (
            f"all {rejected.total()} replies of stage {stage} were rejected ({_listed(rejected)});"
            " try another teacher or prompt: the replies are in the stage's annotations"
        )
    if batch.attributes["budget_exhausted"] and stage > 1:
        return None
    return (
        f"none of {asked} requests of stage {stage} was answered ({_listed(unanswered)}); not one row can be trained on"
    )


def duplicated_rows(
    own: Sequence[Mapping[str, Any]], *, earlier: Iterable[Mapping[str, Any]], wanted: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    """Repeat each domain's rows of all stages so far until it has what is wanted, the least repeated first.

    own: this stage's real rows.   wanted: rows to add per domain.   A domain without a row gets none.
    """
    used: dict[str, Counter[str]] = defaultdict(Counter)
    first: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for row in [*earlier, *own]:
        used[row["domain"]][row["row_id"]] += 1
        first[row["domain"]].setdefault(row["row_id"], row)
    for domain, count in sorted(wanted.items()):
        for _ in range(count if first[domain] else 0):
            # min takes the first of equals: dictionaries keep the order of appearance.
            row_id = min(first[domain], key=lambda one: used[domain][one])
            used[domain][row_id] += 1
            yield {**first[domain][row_id], "origin": DUPLICATE}


def _batch_rows(
    stage: Stage, tallies: Mapping[str, DomainTally], *, judged: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    real = list(_real_rows(stage, tallies))
    yield from real
    for row in judged:
        if tallies[row["domain"]].count(row):
            yield _training_row(row, origin=SYNTHETIC, with_rationale=stage.annotates)
    if stage.frozen.method.tail is TailFilling.DUPLICATE:
        wanted = _missing(stage.plan, real)
        yield from duplicated_rows(real, earlier=stage.earlier_batches(), wanted=wanted)


def _real_rows(stage: Stage, tallies: Mapping[str, DomainTally]) -> Iterator[dict[str, Any]]:
    if stage.annotates:
        for row in stage.annotated_rows(AnnotationPhase.ANNOTATE):
            if tallies[row["domain"]].count(row):
                yield _training_row(row, origin=REAL, with_rationale=True)
        return
    for example in stage.selected_examples():
        yield {
            "row_id": example.example_id,
            "domain": example.domain,
            "origin": REAL,
            "input": example.input,
            "rationale": "",
            "answer": example.answer,
        }


def _training_row(row: Mapping[str, Any], *, origin: str, with_rationale: bool) -> dict[str, Any]:
    return {
        "row_id": row["row_id"],
        "domain": row["domain"],
        "origin": origin,
        "input": row["input"],
        "rationale": row["rationale"] if with_rationale else "",
        "answer": row["answer"],
    }


def _missing(plan: StagePlan, real: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    have = Counter(row["domain"] for row in real)
    return {name: max(0, domain.required - have[name]) for name, domain in plan.domains.items()}


def _reasons(domains: Mapping[str, Any], outcome: str) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for tally in domains.values():
        reasons.update(tally[outcome])
    return reasons


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items()))
