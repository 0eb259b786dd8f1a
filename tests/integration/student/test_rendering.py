"""What the student reads and is to write, token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.errors import InvalidInput
from baldistill.specs.frozen import FrozenRun
from baldistill.student.base_models import resolve_base_model
from baldistill.student.loading import load_tokenizer
from baldistill.student.rendering import render, render_answer_only, render_prompt
from baldistill.tasks.templates import render_template
from baldistill.testing.small_runs import SmallRun


@pytest.fixture
def make_frozen(tmp_path: Path, tiny_base: Path) -> Any:
    def make(**changes: Any) -> FrozenRun:
        student = {"base": str(tiny_base), "training": {"max_tokens": 128}} | changes.pop("student", {})
        sizes = {"billing": 2, "login": 2}
        store = LocalArtifactStore(tmp_path)
        return SmallRun.create(store, base=tiny_base, pool=sizes, test=sizes, student=student, **changes).frozen

    return make


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> Any:
    return load_tokenizer(resolve_base_model(str(tiny_base)))


def question(frozen: FrozenRun, text: str) -> str:
    return render_template(frozen.templates.student_prompt, input=text, labels=frozen.labels)


def test_a_chat_prompt_has_an_explicit_system_message_and_opens_the_answer(make_frozen: Any, tokenizer: Any) -> None:
    frozen = make_frozen()
    one = render(frozen, tokenizer, text="Where is my refund?", answer="billing", rationale="It asks for money.")
    assert tokenizer.decode(one.prompt_ids) == (
        f"<|im_start|>system\n{frozen.templates.student_system}<|im_end|>\n"
        f"<|im_start|>user\n{question(frozen, 'Where is my refund?')}<|im_end|>\n<|im_start|>assistant\n"
    )
    wanted = render_template(frozen.templates.rationale_target, rationale="It asks for money.", answer="billing")
    assert tokenizer.decode(one.target_ids) == f"{wanted}<|im_end|>"
    assert one.target_ids[-1] == tokenizer.eos_token_id
    assert not one.input_cut


def test_a_plain_prompt_is_text(make_frozen: Any, tokenizer: Any) -> None:
    frozen = make_frozen(student={"prompt_style": "plain"})
    prompt, _ = render_prompt(frozen, tokenizer, text="Hi")
    assert tokenizer.decode(prompt) == f"{frozen.templates.student_system}\n\n{question(frozen, 'Hi')}\n"


def test_a_label_target_leaves_the_rationale_out(make_frozen: Any, tokenizer: Any) -> None:
    frozen = make_frozen(target="label")
    one = render(frozen, tokenizer, text="Hi", answer="login", rationale="Because.")
    assert tokenizer.decode(one.target_ids[:-1]) == render_template(frozen.templates.label_target, answer="login")


def test_too_long_an_input_is_cut_from_its_end_and_the_target_never(make_frozen: Any, tokenizer: Any) -> None:
    frozen = make_frozen()
    text = "first words " + "many more words follow here " * 50
    one = render(frozen, tokenizer, text=text, answer="billing", rationale="A reason.")
    assert one.input_cut
    assert 120 <= one.length <= 128
    shown = tokenizer.decode(one.prompt_ids)
    assert "first words" in shown
    assert shown.endswith("<|im_start|>assistant\n")
    whole = render(frozen, tokenizer, text="x", answer="billing", rationale="A reason.")
    assert one.target_ids == whole.target_ids


def test_a_target_without_room_is_refused(make_frozen: Any, tokenizer: Any) -> None:
    with pytest.raises(InvalidInput, match=r"student\.training\.max_tokens"):
        render(make_frozen(), tokenizer, text="x", answer="billing", rationale="word " * 200)


def test_the_teacher_forced_answer_is_the_answer_and_its_end_alone(make_frozen: Any, tokenizer: Any) -> None:
    frozen = make_frozen()
    prompt, target = render_answer_only(frozen, tokenizer, text="Hi", answer="login")
    assert tokenizer.decode(target) == " login<|im_end|>"
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\nAnswer:")
