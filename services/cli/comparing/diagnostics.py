"""Why a method did what it did: what its scores rank by, what it picked, what it invented. Read from a run's artifacts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from baldistill.artifacts.ports import ArtifactStore
from baldistill.artifacts.tables import read_table
from baldistill.datasets.storage import iter_examples, load_dataset
from baldistill.seeding import stable_hash
from baldistill.specs.frozen import FrozenRun
from services.cli.comparing.correlation import spearman
from services.cli.comparing.variance import explained_share

_SYNTHETIC = "synthetic"


def run_diagnostics(store: ArtifactStore, frozen: FrozenRun) -> dict[str, Any]:
    """Return plain JSON values: {stages: [...], synthesis: {...}}. A stage without scores has no entry."""
    scored = [(stage, _scores(store, frozen, stage)) for stage in range(1, frozen.spec.stages + 1)]
    return {
        "stages": [
            {"stage": stage, **score_diagnostics(scores, picked=_picked(store, frozen, stage), seed=frozen.spec.seed)}
            for stage, scores in scored
            if scores
        ],
        "synthesis": synthesis_diagnostics(_batch_rows(store, frozen), truth=_truth(store, frozen)),
    }


def score_diagnostics(scores: Sequence[Mapping[str, Any]], *, picked: set[str], seed: int) -> dict[str, Any]:
    """Return what one stage's scores say. Pure.

    spearman_ifd_*: with -NLL(y) and with NLL(y|x), over candidates that have an IFD: whichever is close to 1 is what IFD
    really ranks by.   explained_by_answer: share of the variance of log IFD, among candidates of one domain, that the
    text of y decides whatever the input is: near 1, IFD ranks answers and not examples.   flagged: share of y at the length
    limit or looping, among all candidates and among the picked.
    overlap_with_random: share of the picks that a random pick of as many from the same candidates of each domain would have
    made too; by_chance: what that share is on average.
    """
    ranked = [row for row in scores if row["ifd"] is not None]
    ifd = [row["ifd"] for row in ranked]
    chosen = [row for row in scores if row["id"] in picked]
    return {
        "candidates": len(scores),
        "without_answer": len(scores) - len(ranked),
        "picked": len(chosen),
        "spearman_ifd_minus_nll_y": spearman(ifd, [-row["unconditioned_nll"] for row in ranked]),
        "spearman_ifd_nll_y_given_x": spearman(ifd, [row["conditioned_nll"] for row in ranked]),
        "explained_by_answer": _explained_by_answer(ranked),
        "flagged_candidates": _share([_is_flagged(row) for row in scores]),
        "flagged_picked": _share([_is_flagged(row) for row in chosen]),
        **_overlap(scores, chosen, seed=seed),
    }


def synthesis_diagnostics(rows: Sequence[Mapping[str, Any]], *, truth: Mapping[str, str]) -> dict[str, Any]:
    """Return what was trained on by domain: rows, how many are synthetic, and how many of these have a wrong answer. Pure.

    truth: the true answer by input, where it is known (an oracle's items); `checked` counts the rows of which it is.
    """
    domains: dict[str, dict[str, int]] = defaultdict(lambda: {"rows": 0, "synthetic": 0, "checked": 0, "wrong": 0})
    for row in rows:
        counts = domains[row["domain"]]
        counts["rows"] += 1
        if row["origin"] == _SYNTHETIC:
            counts["synthetic"] += 1
            if row["input"] in truth:
                counts["checked"] += 1
                counts["wrong"] += truth[row["input"]] != row["answer"]
    total = {
        name: sum(counts[name] for counts in domains.values()) for name in ("rows", "synthetic", "checked", "wrong")
    }
    return {"all": total, "domains": dict(sorted(domains.items()))}


def _explained_by_answer(ranked: Sequence[Mapping[str, Any]]) -> float | None:
    # NLL(y) is of y alone, so that equal ones mean equal answers; rounded, as the batch that an answer is in moves its last digits.
    return explained_share(
        [math.log(row["ifd"]) for row in ranked],
        blocks=[row["domain"] for row in ranked],
        groups=[(row["generated_tokens"], round(row["unconditioned_nll"], 3)) for row in ranked],
    )


def _overlap(
    scores: Sequence[Mapping[str, Any]], chosen: Sequence[Mapping[str, Any]], *, seed: int
) -> dict[str, float | None]:
    if not chosen:
        return {"overlap_with_random": None, "by_chance": None}
    candidates: dict[str, list[str]] = defaultdict(list)
    wanted: dict[str, int] = defaultdict(int)
    for row in scores:
        candidates[row["domain"]].append(row["id"])
    for row in chosen:
        wanted[row["domain"]] += 1
    random = {
        one
        for domain, count in wanted.items()
        for one in sorted(candidates[domain], key=lambda one: stable_hash(seed, "random pick", one))[:count]
    }
    expected = sum(count**2 / len(candidates[domain]) for domain, count in wanted.items())
    return {
        "overlap_with_random": _share([row["id"] in random for row in chosen]),
        "by_chance": expected / len(chosen),
    }


def _is_flagged(row: Mapping[str, Any]) -> bool:
    return bool(row["hit_length_limit"] or row["looping"])


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def _scores(store: ArtifactStore, frozen: FrozenRun, stage: int) -> list[dict[str, Any]]:
    layout = frozen.layout.stage(stage)
    rows: list[dict[str, Any]] = []
    shard = 0
    while (manifest := store.find_manifest(layout.score_shard(shard))) is not None:
        rows.extend(read_table(store, manifest.files["scores"]))
        shard += 1
    return rows


def _picked(store: ArtifactStore, frozen: FrozenRun, stage: int) -> set[str]:
    manifest = store.find_manifest(frozen.layout.stage(stage).selection)
    if manifest is None:
        return set()
    return {row["id"] for row in read_table(store, manifest.files["selection"], columns=["id"])}


def _batch_rows(store: ArtifactStore, frozen: FrozenRun) -> list[dict[str, Any]]:
    return list(_batches(store, frozen))


def _batches(store: ArtifactStore, frozen: FrozenRun) -> Iterator[dict[str, Any]]:
    for stage in range(1, frozen.spec.stages + 1):
        manifest = store.find_manifest(frozen.layout.stage(stage).batch)
        if manifest is not None:
            yield from read_table(store, manifest.files["batch"], columns=["domain", "origin", "input", "answer"])


def _truth(store: ArtifactStore, frozen: FrozenRun) -> dict[str, str]:
    dataset = load_dataset(store, tenant=frozen.spec.tenant, name=frozen.dataset.name, version=frozen.dataset.version)
    return {one.input: one.answer for one in iter_examples(store, dataset.oracle)} if dataset.oracle else {}
