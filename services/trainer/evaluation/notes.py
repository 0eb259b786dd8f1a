"""What a reader must know beside a report's figures, in sentences; for every place that prints them."""

from __future__ import annotations

from collections.abc import Iterator

from services.trainer.evaluation.reports import EvaluationReport, Metric

_MEANINGS = {
    Metric.F1: "f1: of each label, one-vs-rest over the whole test set.",
    Metric.PAIR: "pair: F1 of each label over (input, answer) pairs; an input with several answers gets one prediction.",
    Metric.SET: "set: F1 of each label over documents with sets of labels; micro: of all labels together.",
    Metric.ACCURACY: "accuracy: share of right answers within the domain.",
    Metric.WORD_F1: "word_f1: F1 of words (SQuAD), best over the accepted answers, mean within the domain.",
}


def metric_notes(report: EvaluationReport) -> Iterator[str]:
    """Yield what the metric is, its ceiling where it has one, and how many comparisons were given up."""
    yield _MEANINGS[report.metric]
    if (ceiling := report.ceiling) is not None:
        yield (
            f"Ceiling with one prediction an input: micro {ceiling.micro:.3f};"
            f" macro {ceiling.macro_reached:.3f} can be reached, {ceiling.macro_at_most:.3f} cannot be exceeded."
        )
    if report.timed_out:
        yield f"{report.timed_out} answers took too long to compare and count as wrong."
