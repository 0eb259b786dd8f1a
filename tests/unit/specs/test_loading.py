"""Mistakes in a spec are told in one line, by file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from baldistill.errors import InvalidInput
from baldistill.specs.loading import blaming_spec, load_runspec
from baldistill.specs.methods import BalancingPolicy, HeadSelection, TailFilling, Target

MINIMAL = """\
name: demo
dataset:
  name: tickets
budget:
  examples: 30
teacher:
  kind: protocol
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_a_minimal_spec_has_the_papers_values(tmp_path: Path) -> None:
    spec = load_runspec(write(tmp_path, MINIMAL))
    assert (spec.student.lora.r, spec.student.lora.alpha, spec.student.lora.dropout) == (8, 16, 0.1)
    assert spec.student.lora.targets == ("q_proj", "v_proj")
    assert (spec.student.training.learning_rate, spec.student.training.epochs) == (2e-4, 5)
    assert spec.resolved_method().target is Target.RATIONALE


@pytest.mark.parametrize(
    ("change", "line", "field", "reason"),
    [
        (("examples: 30", "examples: 0"), 5, "budget.examples", "greater than or equal to 1"),
        (("examples: 30", "examples: lots"), 5, "budget.examples", "valid integer"),
        (("name: tickets", "nmae: tickets"), 2, "dataset.name", "required"),
        (("kind: protocol", "kind: protocol\n  colour: red"), 8, "teacher.colour", "unknown key"),
        (("kind: protocol", "kind: openai"), 6, "teacher.base_url", "required for kind openai"),
        (("name: demo", "name: demo\nstages: 31"), 2, "stages", "31 stages cannot share"),
        (("name: demo", "name: demo\nmethod: magic"), 2, "method", "unknown preset"),
        (("name: demo", "name: demo\nmethod: {policy: random, head: ifd, tail: none}"), 2, "method", "policy pooled"),
        (("name: demo", "name: Demo Run"), 1, "name", "match"),
    ],
)
def test_a_mistake_is_named_by_line_and_field(
    tmp_path: Path, change: tuple[str, str], line: int, field: str, reason: str
) -> None:
    path = write(tmp_path, MINIMAL.replace(*change))
    with pytest.raises(InvalidInput) as caught:
        load_runspec(path)
    assert (caught.value.line, caught.value.field) == (line, field)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "not a mapping"), ("- a\n- b\n", "not a mapping"), ("name: [\n", "not valid YAML")],
)
def test_what_is_no_spec_at_all_is_told(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        load_runspec(write(tmp_path, text))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such spec file"):
        load_runspec(tmp_path / "nothing.yaml")


def test_a_mix_of_policy_head_and_tail_is_a_method(tmp_path: Path) -> None:
    text = MINIMAL + "method: {policy: naive, head: ifd, tail: duplicate}\ntarget: label\n"
    method = load_runspec(write(tmp_path, text)).resolved_method()
    assert (method.policy, method.head, method.tail, method.target) == (
        BalancingPolicy.NAIVE,
        HeadSelection.IFD,
        TailFilling.DUPLICATE,
        Target.LABEL,
    )


def test_an_error_that_knows_only_the_field_gets_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    with pytest.raises(InvalidInput) as caught, blaming_spec(path):
        raise InvalidInput("has no price", field="teacher.price")
    assert str(caught.value) == f"{path}:6: field 'teacher.price': has no price"


def test_an_error_about_another_file_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught, blaming_spec(write(tmp_path, MINIMAL)):
        raise InvalidInput("broken", path="train.jsonl", line=3, field="answer")
    assert str(caught.value) == "train.jsonl:3: field 'answer': broken"
