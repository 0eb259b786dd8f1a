"""The one place where texts become the student's tokens: trainer, selector, evaluation and prediction (DESIGN 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from baldistill.errors import InvalidInput
from baldistill.specs.frozen import FrozenRun
from baldistill.specs.methods import Target
from baldistill.tasks.templates import render_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedExample:
    """Token ids of one example. target_ids: EOS included. input_cut: the input field was shortened to fit."""

    prompt_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    input_cut: bool

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.target_ids)


def render(
    frozen: FrozenRun, tokenizer: PreTrainedTokenizerFast, *, text: str, answer: str, rationale: str = ""
) -> RenderedExample:
    """Render a question with what the student is to write for it.

    Prompt and target are encoded apart and joined, then EOS. Raises InvalidInput where the target leaves no room.
    """
    templates = frozen.templates
    if frozen.method.target is Target.RATIONALE and rationale:
        target = render_template(templates.rationale_target, rationale=rationale, answer=answer)
    else:
        target = render_template(templates.label_target, answer=answer)
    target_ids = (*encode(tokenizer, target), tokenizer.eos_token_id)
    prompt_ids, cut = render_prompt(frozen, tokenizer, text=text, room_for=len(target_ids))
    return RenderedExample(prompt_ids=prompt_ids, target_ids=target_ids, input_cut=cut)


def render_prompt(
    frozen: FrozenRun, tokenizer: PreTrainedTokenizerFast, *, text: str, room_for: int = 0
) -> tuple[tuple[int, ...], bool]:
    """Return a question's token ids, and whether its input was cut from its end.

    room_for: tokens that must fit behind it within `student.training.max_tokens`, half of which is the prompt's at least
    while an answer is being generated (see `room_for_generation`). Raises InvalidInput where nothing is left to cut.
    """
    limit = frozen.spec.student.training.max_tokens - room_for
    whole = _prompt_ids(frozen, tokenizer, text)
    if len(whole) <= limit:
        return whole, False
    fitting, too_long = -1, len(text)
    best: tuple[int, ...] = ()
    while too_long - fitting > 1:
        middle = (fitting + too_long) // 2
        ids = _prompt_ids(frozen, tokenizer, text[:middle])
        if len(ids) <= limit:
            fitting, best = middle, ids
        else:
            too_long = middle
    if fitting < 0:
        raise InvalidInput(
            f"prompt and target need more than {frozen.spec.student.training.max_tokens} tokens even with an empty input;"
            " raise it, or list no labels (task.list_labels: no)",
            field="student.training.max_tokens",
        )
    return best, True


def room_for_generation(frozen: FrozenRun, *, max_new_tokens: int) -> int:
    """Return how many tokens a prompt leaves free for an answer that is not known yet: at most half of all."""
    return min(max_new_tokens, frozen.spec.student.training.max_tokens // 2)


def render_answer_only(
    frozen: FrozenRun, tokenizer: PreTrainedTokenizerFast, *, text: str, answer: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return prompt and target for the teacher-forced answer: the words before the answer stand in the prompt.

    So a student that learnt to reason first is not charged for how an answer line begins.
    """
    label_target = frozen.templates.label_target
    forced = encode(tokenizer, render_template(label_target, answer="").rstrip())
    whole = (*encode(tokenizer, render_template(label_target, answer=answer)), tokenizer.eos_token_id)
    shared = 0
    while shared < min(len(forced), len(whole) - 1) and forced[shared] == whole[shared]:
        shared += 1
    prompt_ids, _ = render_prompt(frozen, tokenizer, text=text, room_for=len(whole))
    return (*prompt_ids, *whole[:shared]), whole[shared:]


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[int, ...]:
    """Return a text's ids, nothing added."""
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)


def _prompt_ids(frozen: FrozenRun, tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[int, ...]:
    templates = frozen.templates
    labels = frozen.labels if frozen.show_labels_to_student else ()
    question = render_template(templates.student_prompt, input=text, labels=labels)
    if frozen.spec.student.prompt_style == "plain":
        return (*_plain_start(tokenizer), *encode(tokenizer, f"{templates.student_system}\n\n{question}\n"))
    if not tokenizer.chat_template:
        raise InvalidInput("the base model's tokenizer has no chat template; use plain", field="student.prompt_style")
    # An explicit system message: templates put one of their own where there is none.
    messages = [{"role": "system", "content": templates.student_system}, {"role": "user", "content": question}]
    return encode(tokenizer, tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def _plain_start(tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Return BOS where the tokenizer itself begins texts with it."""
    ids = tokenizer("a").input_ids
    return (ids[0],) if tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id else ()
