"""Prompt templates of a task. Resolved into spec.json at submit, so that a run's prompts never change (DESIGN 4)."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field


class TaskTemplates(BaseModel):
    """Jinja2 templates. Variables: `input`, `answer`, `rationale`, `domain`, `labels`, `demonstrations` where they fit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    student_system: str = Field(description="system message of the student; no variables")
    student_prompt: str = Field(description="the student's question: input, labels (empty when not listed)")
    rationale_target: str = Field(description="what the student learns: rationale, answer")
    label_target: str = Field(description="what the student learns without a rationale: answer")
    annotation_system: str = Field(description="system message for annotation by the teacher; no variables")
    annotation_prompt: str = Field(description="zero-shot chain of thought with the true answer: input, answer, labels")
    synthesis_system: str = Field(description="system message for synthesis by the teacher; no variables")
    synthesis_prompt: str = Field(
        description="asks for one new example of a domain: domain, labels, demonstrations (input, rationale, answer)"
    )


CLASSIFICATION = TaskTemplates(
    student_system="You classify texts.",
    student_prompt=(
        "{% if labels %}Labels: {{ labels | join(', ') }}\n{% endif %}Text: {{ input }}\n"
        "Which label fits? End with the line: Answer: <label>"
    ),
    rationale_target="{{ rationale }}\nAnswer: {{ answer }}",
    label_target="Answer: {{ answer }}",
    annotation_system="You explain classifications in one or two short sentences.",
    annotation_prompt=(
        "Labels: {{ labels | join(', ') }}\nText: {{ input }}\nThe correct label is: {{ answer }}\n"
        "Explain step by step, in at most two sentences, why this label fits. "
        "Then write on a line of its own: Answer: {{ answer }}"
    ),
    synthesis_system="You write realistic, varied examples for a text classifier.",
    synthesis_prompt=(
        "Labels: {{ labels | join(', ') }}\nHere are examples of the domain {{ domain }}.\n"
        "{% for one in demonstrations %}\n<input>{{ one.input }}</input>\n"
        "{% if one.rationale %}<rationale>{{ one.rationale }}</rationale>\n{% endif %}"
        "<answer>{{ one.answer }}</answer>\n{% endfor %}\n"
        "Write one new example of the same domain, different from all of these, in the same three tags: "
        "<input>, <rationale> (at most two sentences) and <answer>."
    ),
)

_ENVIRONMENT = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)


@lru_cache(maxsize=64)
def _compiled(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)


def render_template(source: str, /, **variables: object) -> str:
    """Return a template filled in. Raises jinja2.TemplateError for an unknown variable or a syntax error."""
    return _compiled(source).render(**variables)
