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


_ENVIRONMENT = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)


@lru_cache(maxsize=64)
def _compiled(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)


def render_template(source: str, /, **variables: object) -> str:
    """Return a template filled in. Raises jinja2.TemplateError for an unknown variable or a syntax error."""
    return _compiled(source).render(**variables)
