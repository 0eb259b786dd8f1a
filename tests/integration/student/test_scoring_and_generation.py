"""Batched generation and scoring of the tiny student against the plainest computation, one example at a time."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import pytest
import torch

from baldistill.errors import InvalidInput
from baldistill.specs.runspec import LoraSpec
from baldistill.student.base_models import require_same_weights, resolve_base_model, weights_sha256
from baldistill.student.dropout import SeededDropout
from baldistill.student.generation import generate_greedily
from baldistill.student.loading import Student, load_student, load_trainable_base
from baldistill.student.lora import attach_fresh, trainable_parameters
from baldistill.student.precision import StudentDtype, resolve_dtype
from baldistill.student.scoring import mean_target_nll, unconditioned_nll
from baldistill.testing.tiny_student import build_tiny_student

TEXTS = ["refund", "Why does the order not arrive in time? " * 5, "a", "How do I reset the password of my account?"]


@pytest.fixture(scope="module")
def student(tiny_base: Path) -> Student:
    torch.set_num_threads(1)
    return load_student(resolve_base_model(str(tiny_base)), dtype=StudentDtype.FLOAT32)


@pytest.fixture(scope="module")
def plain(tiny_base: Path) -> Student:
    """The same student, for transformers' own forward pass."""
    return load_student(resolve_base_model(str(tiny_base)), dtype=StudentDtype.FLOAT32)


@pytest.fixture(scope="module")
def prompts(student: Student) -> list[tuple[int, ...]]:
    return [tuple(student.tokenizer(text).input_ids) for text in TEXTS]


@torch.inference_mode()
def plain_nll(student: Student, prompt: tuple[int, ...], target: tuple[int, ...]) -> float:
    logits = student.model(input_ids=torch.tensor([[*prompt, *target]])).logits[0].double()
    log_probabilities = logits.log_softmax(dim=-1)
    steps = range(len(prompt) - 1, len(prompt) + len(target) - 1)
    return -sum(float(log_probabilities[at, token]) for at, token in zip(steps, target, strict=True)) / len(target)


@torch.inference_mode()
def plain_greedy(student: Student, prompt: tuple[int, ...], *, limit: int) -> tuple[int, ...]:
    ids = list(prompt)
    while len(ids) < len(prompt) + limit:
        token = int(student.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token in student.stop_ids:
            break
        ids.append(token)
    return tuple(ids[len(prompt) :])


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_batched_answers_are_those_of_one_prompt_at_a_time(
    student: Student, plain: Student, prompts: list[tuple[int, ...]], batch_size: int
) -> None:
    written = generate_greedily(student, prompts, max_new_tokens=20, batch_size=batch_size)
    assert [one.token_ids for one in written] == [plain_greedy(plain, prompt, limit=20) for prompt in prompts]


def test_a_row_that_ends_leaves_its_batch_and_has_no_eos(
    tiny_base: Path, student: Student, plain: Student, prompts: list[tuple[int, ...]]
) -> None:
    whole = generate_greedily(student, prompts, max_new_tokens=20, batch_size=4)
    # The third token of the first answer becomes an end.
    stopping = load_student(resolve_base_model(str(tiny_base)), dtype=StudentDtype.FLOAT32)
    stopping.__dict__["stop_ids"] = frozenset({whole[0].token_ids[2]})
    plainly = dataclasses.replace(plain)
    plainly.__dict__["stop_ids"] = stopping.stop_ids
    cut = generate_greedily(stopping, prompts, max_new_tokens=20, batch_size=4)
    assert cut[0].token_ids == whole[0].token_ids[: whole[0].token_ids.index(whole[0].token_ids[2])]
    assert not cut[0].hit_length_limit
    assert [one.token_ids for one in cut] == [plain_greedy(plainly, prompt, limit=20) for prompt in prompts]


def test_batched_likelihoods_are_those_of_a_plain_computation(
    student: Student, plain: Student, prompts: list[tuple[int, ...]]
) -> None:
    targets = [one.token_ids for one in generate_greedily(student, prompts, max_new_tokens=9, batch_size=2)]
    pairs = list(zip(prompts, targets, strict=True))
    conditioned = mean_target_nll(student, pairs, batch_size=3)
    alone = unconditioned_nll(student, targets, batch_size=3)
    prefix = (student.tokenizer.eos_token_id,)
    for at, (prompt, target) in enumerate(pairs):
        assert conditioned[at] == pytest.approx(plain_nll(plain, prompt, target), rel=1e-4)
        assert alone[at] == pytest.approx(plain_nll(plain, prefix, target), rel=1e-4)
        ifd = math.exp(conditioned[at] - alone[at])
        expected = math.exp(plain_nll(plain, prompt, target) - plain_nll(plain, prefix, target))
        assert ifd == pytest.approx(expected, rel=1e-4)


def test_a_base_model_without_a_pad_token_writes_the_same(
    tiny_base: Path, student: Student, prompts: list[tuple[int, ...]]
) -> None:
    tokenizer = copy.deepcopy(student.tokenizer)
    tokenizer.pad_token = None
    other = load_student(resolve_base_model(str(tiny_base)), dtype=StudentDtype.FLOAT32)
    without = dataclasses.replace(other, tokenizer=tokenizer)
    assert without.tokenizer.pad_token_id is None
    written = [generate_greedily(one, prompts, max_new_tokens=9, batch_size=4) for one in (student, without)]
    assert written[0] == written[1]


def test_an_empty_target_has_no_likelihood(student: Student) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        mean_target_nll(student, [((1, 2), ())], batch_size=1)


def test_an_unknown_lora_target_is_named_with_what_there_is(tiny_base: Path) -> None:
    base = load_trainable_base(resolve_base_model(str(tiny_base)), dtype=StudentDtype.FLOAT32)
    lora = LoraSpec(targets=("q_proj", "query"))
    with pytest.raises(InvalidInput, match=r"student\.lora\.targets.*named query; it has .*q_proj"):
        attach_fresh(base.model, lora, base_name="tiny", rng=torch.Generator())


def test_a_fresh_adapter_is_float32_over_a_bfloat16_base_and_drawn_from_its_seed(tiny_base: Path) -> None:
    drawn = []
    for _ in range(2):
        base = load_trainable_base(resolve_base_model(str(tiny_base)), dtype=StudentDtype.BFLOAT16)
        adapted = attach_fresh(base.model, LoraSpec(), base_name="tiny", rng=torch.Generator().manual_seed(3))
        parameters = trainable_parameters(adapted)
        assert {one.dtype for one in parameters.values()} == {torch.float32}
        assert {one.dtype for one in adapted.parameters() if not one.requires_grad} == {torch.bfloat16}
        # 2 layers, 2 targets, A and B.
        assert len(parameters) == 8
        drawn.append(torch.cat([one.detach().flatten() for one in parameters.values()]))
        # Moves torch's global generator between the two: it must not matter.
        torch.rand(7)
    assert torch.equal(drawn[0], drawn[1])
    assert drawn[0].abs().sum() > 0


def test_dropout_keeps_the_expected_share_and_scale_and_repeats_with_its_seed() -> None:
    x = torch.ones(500, 401)
    once = SeededDropout(0.25, rng=torch.Generator().manual_seed(5))(x)
    again = SeededDropout(0.25, rng=torch.Generator().manual_seed(5))(x)
    assert torch.equal(once, again)
    assert once.unique().tolist() == pytest.approx([0.0, 4 / 3])
    # 200,500 draws: the standard error of the share is 0.001.
    assert float((once == 0).float().mean()) == pytest.approx(0.25, abs=0.005)
    module = SeededDropout(0.25, rng=torch.Generator())
    module.eval()
    assert module(x) is x


def test_other_weights_than_the_frozen_ones_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    other = build_tiny_student(tmp_path / "other", seed=2)
    assert weights_sha256(other) != weights_sha256(tiny_base)
    with pytest.raises(InvalidInput, match=r"student\.base.*put the earlier weights back"):
        require_same_weights(resolve_base_model(str(other)), weights_sha256(tiny_base))


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_is_no_model_is_refused_by_name_of_what_is_missing(tmp_path: Path, missing: str) -> None:
    folder = build_tiny_student(tmp_path / "broken")
    (folder / missing).unlink()
    with pytest.raises(InvalidInput, match=r"student\.base"):
        resolve_base_model(str(folder))


def test_a_model_that_is_nowhere_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(InvalidInput, match=r"unknown model 'nobody/nothing'.*hf download"):
        resolve_base_model("nobody/nothing")


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")
def test_nf4_without_cuda_is_refused_and_auto_needs_none() -> None:
    with pytest.raises(InvalidInput, match="nf4 needs a CUDA device"):
        resolve_dtype("nf4")
    assert resolve_dtype("auto") in {StudentDtype.FLOAT32, StudentDtype.BFLOAT16}
