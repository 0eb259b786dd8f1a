"""A pack is the same loss as its rows one by one: no row sees another, the shared prefix counts in each, nothing is padded."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.specs.runspec import LoraSpec
from baldistill.student.base_models import resolve_base_model
from baldistill.student.dropout import SeededDropout
from baldistill.student.loading import load_tokenizer, load_trainable_base
from baldistill.student.lora import attach_fresh, trainable_parameters
from baldistill.student.packed.llama import PackedLlama
from baldistill.student.packed.packing import pack_rows, shared_prefix_length
from baldistill.student.precision import StudentDtype
from baldistill.student.rendering import render
from baldistill.student.scoring import PromptAndTarget
from baldistill.student.target_loss import PaddedLoss, target_loss
from baldistill.testing.small_runs import SmallRun

ALL_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def ids(rng: random.Random, count: int) -> tuple[int, ...]:
    return tuple(rng.randrange(3, 250) for _ in range(count))


def rows_of(shape: str) -> list[PromptAndTarget]:
    rng = random.Random(shape)
    prefix = ids(rng, 23)
    if shape == "one row":
        return [(prefix, ids(rng, 5))]
    if shape == "equal rows":
        return [(prefix, (7, 8, 2))] * 3
    if shape == "nothing shared":
        return [((3 + row, *ids(rng, 5 * row)), ids(rng, 9 - row)) for row in range(6)]
    if shape == "prompts within prompts":
        return [(prefix[: 4 + row], ids(rng, 4)) for row in range(5)]
    # Long rows of several lengths, so that there are several groups with gaps.
    return [((*prefix, *ids(rng, rng.randrange(1, 200))), ids(rng, rng.randrange(1, 40))) for _ in range(9)]


# As the plain model computes them, and pinned: what changes them changes what every run learns.
GOLDEN_LOSSES = [7.27082, 6.89927, 6.60404]

SHAPES = ["one row", "equal rows", "nothing shared", "prompts within prompts", "long rows"]


@pytest.fixture
def make_losses(tiny_base: Path) -> Callable[..., tuple[PackedLlama, PaddedLoss, dict[str, torch.nn.Parameter]]]:
    def make(
        *, targets: Sequence[str] = ALL_TARGETS, dropout: float = 0.0, dtype: StudentDtype = StudentDtype.FLOAT32
    ) -> tuple[PackedLlama, PaddedLoss, dict[str, torch.nn.Parameter]]:
        base = load_trainable_base(resolve_base_model(str(tiny_base)), dtype=dtype)
        rng = torch.Generator().manual_seed(3)
        lora = LoraSpec(r=8, dropout=dropout, targets=tuple(targets))
        adapted = attach_fresh(base.model, lora, base_name="tiny", rng=rng)
        adapted.train()
        parameters = trainable_parameters(adapted)
        with torch.no_grad():
            for one in parameters.values():
                one.normal_(0, 0.1, generator=rng)
        packed = target_loss(adapted, device=base.device)
        assert isinstance(packed, PackedLlama)
        return packed, PaddedLoss(adapted, device=base.device), parameters

    return make


def gradients_of(nll: Tensor, parameters: dict[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    # Weighted, so that every target token counts differently.
    weights = torch.linspace(0.5, 1.5, len(nll))
    found = torch.autograd.grad((nll * weights).sum(), list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pack_gives_the_loss_and_the_gradients_of_its_rows_one_by_one(make_losses: Any, shape: str) -> None:
    packed, padded, parameters = make_losses()
    rows = rows_of(shape)
    together = packed.target_token_nll(rows)
    alone = torch.cat([padded.target_token_nll([row]) for row in rows])
    assert torch.allclose(together, alone, atol=1e-4)
    wanted = gradients_of(alone, parameters)
    for name, found in gradients_of(together, parameters).items():
        assert torch.linalg.vector_norm(found - wanted[name]) <= 1e-4 * torch.linalg.vector_norm(wanted[name]), name


def test_bfloat16_is_as_far_from_float32_as_the_plain_model_in_bfloat16(make_losses: Any) -> None:
    rows = rows_of("long rows")
    exact = make_losses()[1].target_token_nll(rows)
    packed, padded, _ = make_losses(dtype=StudentDtype.BFLOAT16)
    error = (packed.target_token_nll(rows) - exact).abs().mean()
    assert error <= 1.5 * (padded.target_token_nll(rows) - exact).abs().mean()


def test_no_row_sees_another(make_losses: Any) -> None:
    packed, _, _ = make_losses()
    rows = rows_of("long rows")
    before = packed.target_token_nll(rows)[: len(rows[0][1])]
    changed = [rows[0], *(((*prompt[:-1], 9), target) for prompt, target in rows[1:])]
    after = packed.target_token_nll(changed)[: len(rows[0][1])]
    assert torch.allclose(before, after, atol=1e-5)


def test_dropout_is_drawn_while_training_alone_and_keeps_the_loss_on_average(
    make_losses: Any,
) -> None:
    packed, padded, _ = make_losses(dropout=0.1)
    rows = rows_of("equal rows")
    with torch.no_grad():
        drawn = torch.stack([packed.target_token_nll(rows) for _ in range(40)])
        assert drawn.std(dim=0).min() > 0
        padded._adapted.eval()
        assert torch.allclose(packed.target_token_nll(rows), padded.target_token_nll(rows), atol=1e-4)
        assert float(drawn.mean()) == pytest.approx(float(packed.target_token_nll(rows).mean()), rel=0.05)


def test_gradients_with_dropout_are_those_of_the_loss_under_the_same_mask(make_losses: Any) -> None:
    packed, padded, parameters = make_losses(targets=("q_proj", "v_proj"), dropout=0.3)
    rng = next(module.masks._rng for module in padded._adapted.modules() if isinstance(module, SeededDropout))

    def loss() -> Tensor:
        rng.manual_seed(11)
        total: Tensor = packed.target_token_nll(rows_of("equal rows")).sum()
        return total

    found = gradients_of(loss()[None], parameters)
    for name, parameter in parameters.items():
        if ".layers.1." in name:
            continue
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            ends = []
            for sign in (1, -2, 1):
                parameter.add_(direction, alpha=sign * 1e-3)
                ends.append(loss())
        slope = float(ends[0] - ends[1]) / 2e-3
        # gradients_of weighs the first token by a half.
        assert float((found[name] * direction).sum()) * 2 == pytest.approx(slope, rel=0.03, abs=0.05), name


def test_a_pack_holds_every_token_once_and_the_prefix_once_for_all() -> None:
    pairs = [((5, 6, 7, 8), (1, 2)), ((5, 6, 9), (3, 4, 2))]
    assert shared_prefix_length([prompt for prompt, _ in pairs]) == 2
    pack = pack_rows(pairs, device=torch.device("cpu"))
    # Both rows have three tokens of their own: the last target token predicts nothing.
    assert pack.ids.tolist() == [5, 6, 7, 8, 1, 9, 3, 4]
    assert pack.positions.tolist() == [0, 1, 2, 3, 4, 2, 3, 4]
    assert pack.wanted.tolist() == [1, 2, 3, 4, 2]
    assert pack.predicting.tolist() == [3, 4, 5, 6, 7]


def test_three_steps_have_the_losses_that_they_always_had(make_losses: Any) -> None:
    packed, _, parameters = make_losses(targets=("q_proj", "v_proj"))
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.01, weight_decay=0.0)
    losses = []
    for _ in range(3):
        mean = packed.target_token_nll(rows_of("long rows")).mean()
        mean.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(mean.detach()))
    assert losses == pytest.approx(GOLDEN_LOSSES, abs=2e-4)


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_every_token_that_is_learnt_belongs_to_a_target_and_none_is_left_out(
    tiny_base: Path, tmp_path: Path, style: str
) -> None:
    sizes = {"billing": 2, "login": 2}
    student = {"base": str(tiny_base), "prompt_style": style, "training": {"max_tokens": 256}}
    store = LocalArtifactStore(tmp_path)
    frozen = SmallRun.create(store, base=tiny_base, pool=sizes, test=sizes, student=student).frozen
    tokenizer = load_tokenizer(resolve_base_model(str(tiny_base)))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    rows = [
        render(frozen, tokenizer, text=text, answer=answer, rationale="It asks.")
        for text, answer in (("My refund", "billing"), ("A password, please", "login"))
    ]
    pack = pack_rows([(row.prompt_ids, row.target_ids) for row in rows], device=torch.device("cpu"))
    learnt = [tokenizer.decode(one.tolist()) for one in torch.split(pack.wanted, [len(row.target_ids) for row in rows])]
    # The end is learnt, though padding has the same id; nothing of the prompt is.
    assert learnt == ["It asks.\nAnswer: billing<|im_end|>", "It asks.\nAnswer: login<|im_end|>"]
    for row, predicting in zip(rows, torch.split(pack.predicting, [len(row.target_ids) for row in rows]), strict=True):
        assert pack.ids[predicting].tolist() == [row.prompt_ids[-1], *row.target_ids[:-1]]
        first = len(row.prompt_ids) - 1
        assert pack.positions[predicting].tolist() == list(range(first, first + len(row.target_ids)))


def test_an_empty_target_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        pack_rows([((5, 6), ())], device=torch.device("cpu"))
