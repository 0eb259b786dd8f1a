"""README.md of an exported student: what it learnt from, how to ask it, how well it does (Hugging Face model card)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baldistill.artifacts.ports import Manifest
from baldistill.specs.frozen import FrozenRun
from services.trainer.evaluation.notes import metric_notes
from services.trainer.evaluation.reports import EvaluationReport

_MISSING = "-"


def model_card(frozen: FrozenRun, student: Manifest, *, stage: int, report: EvaluationReport | None) -> str:
    """Return the card as Markdown with the front matter that PEFT's own cards have."""
    spec = frozen.spec
    attributes = student.attributes
    lines = [
        "---",
        f"base_model: {frozen.base_model.name}",
        "library_name: peft",
        "pipeline_tag: text-generation",
        "tags: [lora, distillation, baldistill]",
        "---",
        f"# {spec.name}, student of stage {stage} of {spec.stages}",
        "",
        "A LoRA adapter made by BalDistill: multi-stage balanced distillation (arXiv 2406.13114).",
        "",
        "| | |",
        "|---|---|",
        f"| method | {_method(frozen)} |",
        f"| data set | {frozen.dataset.name}, version {frozen.dataset.version} |",
        f"| budget | {spec.budget.examples} training rows over {spec.stages} stages |",
        f"| teacher | {spec.teacher.kind}, {spec.teacher.model} |",
        f"| trained on | {attributes['rows']} rows, {attributes['target_tokens']} target tokens, {attributes['steps']} steps |",
        f"| loss | {_number(attributes['final_loss'])} nats per target token over the last epoch |",
        f"| inputs cut | {_cut(attributes['inputs_cut'])} |",
        *(
            ["| reproducible | not bit-exact: it changed the kind of machine, or memory was short |"]
            if attributes.get("bit_exact") is False
            else []
        ),
        f"| base weights | sha256 of the safetensors digests: {frozen.base_model.weights_sha256} |",
        f"| adapter | LoRA r {spec.student.lora.r}, alpha {spec.student.lora.alpha}, on {', '.join(spec.student.lora.targets)} |",
        "",
        "## How to ask it",
        "",
        f"`prompt_style: {spec.student.prompt_style}`. "
        + (
            "Use the tokenizer's chat template with these two messages."
            if spec.student.prompt_style == "chat"
            else "One text: the system message, an empty line, the question, a line break."
        ),
        "",
        f"System: `{frozen.templates.student_system}`",
        "",
        "Question (Jinja2):",
        "",
        "```",
        frozen.templates.student_prompt,
        "```",
        "",
        *([f"Labels: {', '.join(frozen.labels)}", ""] if frozen.show_labels_to_student else []),
        *(_scores(report) if report is not None else []),
    ]
    return "\n".join(lines)


def _method(frozen: FrozenRun) -> str:
    method = frozen.method
    parts = f"policy {method.policy.value}, head {method.head.value}, tail {method.tail.value}, target {method.target.value}"
    return f"{frozen.spec.method} ({parts})" if isinstance(frozen.spec.method, str) else parts


def _scores(report: EvaluationReport) -> list[str]:
    return [
        "## Scores",
        "",
        f"{report.metric.value}: macro {_number(report.macro)}, micro {_number(report.micro)} over {report.items} test items.",
        *metric_notes(report),
        "",
        "| domain | group | pool | test items | score | answer NLL |",
        "|---|---|---:|---:|---:|---:|",
        *(
            f"| {name} | {one.group.value} | {one.pool} | {one.items} | {_number(one.score)} | {_number(one.answer_nll)} |"
            for name, one in sorted(report.domains.items())
        ),
        "",
    ]


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else _MISSING


def _cut(counts: Any) -> str:
    assert isinstance(counts, Mapping)
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
