"""The decoder of our own against transformers' forward pass, for every type of model that it says it knows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from baldistill.student import decoding
from baldistill.student.batching import shared_prefix
from baldistill.student.decoder import Decoder
from baldistill.student.decoder_weights import KNOWN_TYPES, decoder_weights, is_known
from baldistill.student.decoding import Written, read_prefix, write_greedily
from baldistill.student.ifd import is_looping
from baldistill.student.projection import projection
from baldistill.student.quiet import quiet_transformers
from baldistill.student.scoring import decoder_target_nll

CPU = torch.device("cpu")
VOCABULARY = 97
BEGINNING = [5, 17, 80, 3, 3, 41]
PROMPTS = [[*BEGINNING, *range(2, 2 + 3 * n)] for n in (9, 6, 6, 2, 1)]


def random_model(model_type: str, **changes: Any) -> Any:
    with quiet_transformers():
        from transformers import AutoConfig, AutoModelForCausalLM
    config = AutoConfig.for_model(
        model_type,
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        **({"sliding_window": None} if model_type == "mistral" else {}) | changes,
    )
    rng = torch.Generator().manual_seed(7)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(requires_grad=False)
    for _, parameter in sorted(model.named_parameters()):
        # Norms and biases as well: one that was forgotten must show.
        parameter.data.normal_(mean=1.0 if parameter.dim() == 1 else 0.0, std=0.3, generator=rng)
    return model


def plain_logits(model: Any, ids: Sequence[int]) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(input_ids=torch.tensor([ids])).logits[0]
    return logits


def plain_answer(model: Any, prompt: Sequence[int], *, limit: int, stop_ids: frozenset[int]) -> Written:
    ids, nll = list(prompt), 0.0
    while len(ids) - len(prompt) < limit:
        likelihoods = plain_logits(model, ids)[-1].double().log_softmax(dim=-1)
        token = int(likelihoods.argmax())
        if token in stop_ids:
            break
        nll -= float(likelihoods[token])
        ids.append(token)
    own = tuple(ids[len(prompt) :])
    return Written(token_ids=own, hit_length_limit=len(own) == limit, nll=nll / len(own) if own else None)


def written_by(decoder: Decoder, *, limit: int, stop_ids: frozenset[int]) -> list[Written]:
    shared = shared_prefix(PROMPTS)
    assert shared == len(BEGINNING) + 2
    return write_greedily(
        decoder,
        [one[shared:] for one in PROMPTS],
        prefix=read_prefix(decoder, PROMPTS[0][:shared], device=CPU),
        max_new_tokens=limit,
        stop_ids=stop_ids,
        device=CPU,
    )


@pytest.fixture(params=[None, 0, 1, 7], ids=lambda count: f"guesses-{count}")
def guessed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guess so many tokens in each pass; None: as many as are worth it."""
    if request.param is not None:
        monkeypatch.setattr(decoding, "tokens_worth_guessing", lambda **_: request.param)


@pytest.mark.usefixtures("guessed")
@pytest.mark.parametrize("model_type", sorted(KNOWN_TYPES))
def test_answers_and_likelihoods_are_those_of_transformers(model_type: str) -> None:
    model = random_model(model_type)
    assert is_known(model)
    plain = copy.deepcopy(model)
    decoder = Decoder(decoder_weights(model))
    whole = [plain_answer(plain, one, limit=24, stop_ids=frozenset()) for one in PROMPTS]
    # Tokens that end some rows early, in the middle and never: rows move up in the cache.
    stop_ids = frozenset({whole[0].token_ids[3], whole[3].token_ids[9]})
    expected = [plain_answer(plain, one, limit=24, stop_ids=stop_ids) for one in PROMPTS]
    assert len({len(one.token_ids) for one in expected}) > 1
    written = written_by(decoder, limit=24, stop_ids=stop_ids)
    for own, wanted in zip(written, expected, strict=True):
        assert own.token_ids == wanted.token_ids
        assert own.hit_length_limit == wanted.hit_length_limit
        assert own.nll == (None if wanted.nll is None else pytest.approx(wanted.nll, rel=1e-5))
    pairs = [(one[:4], one[4:]) for one in PROMPTS]
    nll = decoder_target_nll(decoder, pairs, device=CPU)
    reference = [
        torch.nn.functional.cross_entropy(plain_logits(plain, one)[3:-1], torch.tensor(one[4:]), reduction="none")
        for one in PROMPTS
    ]
    torch.testing.assert_close(nll, torch.cat(reference), rtol=1e-4, atol=1e-5)


def test_what_freed_memory_held_does_not_reach_an_answer() -> None:
    decoder = Decoder(decoder_weights(random_model("llama")))
    expected = written_by(decoder, limit=24, stop_ids=frozenset())
    width = max(map(len, PROMPTS)) + 24
    for _ in range(20):
        # The size of the cache, full of NaN, freed: an allocator gives it again.
        torch.full((3, len(PROMPTS), width, 4, 8), float("nan"))
        assert written_by(decoder, limit=24, stop_ids=frozenset()) == expected


def test_weights_that_were_taken_serve_nobody_else_silently() -> None:
    model = random_model("qwen2")
    decoder_weights(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        plain_logits(model, PROMPTS[0])
    with pytest.raises(ValueError, match="another decoder's"):
        decoder_weights(model)


def test_without_onednn_the_model_and_the_decoder_share_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    model = random_model("qwen2")
    before = plain_logits(model, PROMPTS[0])
    decoder = Decoder(decoder_weights(model))
    torch.testing.assert_close(plain_logits(model, PROMPTS[0]), before)
    nll = decoder_target_nll(decoder, [(PROMPTS[0][:1], PROMPTS[0][1:])], device=CPU)
    expected = torch.nn.functional.cross_entropy(before[:-1], torch.tensor(PROMPTS[0][1:]), reduction="none")
    torch.testing.assert_close(nll, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [0, 1, 3, 64, 700])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_weight_multiplies_like_a_plain_one(rows: int, dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(rows)
    x, weight, bias = (torch.randn(size, generator=rng).to(dtype) for size in ((rows, 96), (130, 96), (130,)))
    plain = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
    rtol, atol = (1e-5, 1e-4) if dtype is torch.float32 else (0.02, 0.1)
    torch.testing.assert_close(projection(weight, bias)(x).double(), plain, rtol=rtol, atol=atol)


@pytest.mark.usefixtures("guessed")
def test_rows_of_very_different_lengths_attend_to_their_own_tokens() -> None:
    """Groups of several rows, emptied from the middle, the beginning and the end."""
    model = random_model("llama")
    plain = copy.deepcopy(model)
    prompts = [[*range(3, 3 + length)] for length in (60, 58, 40, 20, 19, 18, 17, 4, 3, 2)]
    whole = [plain_answer(plain, one, limit=20, stop_ids=frozenset()) for one in prompts]
    stop_ids = frozenset({whole[0].token_ids[2], whole[4].token_ids[5], whole[8].token_ids[7]})
    expected = [plain_answer(plain, one, limit=20, stop_ids=stop_ids) for one in prompts]
    assert len({len(one.token_ids) for one in expected}) > 2
    decoder = Decoder(decoder_weights(model))
    nothing = read_prefix(decoder, (), device=CPU)
    written = write_greedily(decoder, prompts, prefix=nothing, max_new_tokens=20, stop_ids=stop_ids, device=CPU)
    assert [one.token_ids for one in written] == [one.token_ids for one in expected]


def test_a_text_that_repeats_itself_takes_fewer_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("llama")
    for layer in model.model.layers:
        # Without attention a token decides the next one, so that a text runs into a loop.
        layer.self_attn.o_proj.weight.data.zero_()
    decoder = Decoder(decoder_weights(model))
    read: list[torch.Size] = []
    hidden = decoder.hidden

    def counted(ids: Tensor, *others: Any) -> Tensor:
        read.append(ids.shape)
        return hidden(ids, *others)

    monkeypatch.setattr(decoder, "hidden", counted)
    nothing = read_prefix(decoder, (), device=CPU)
    (own,) = write_greedily(decoder, [[5]], prefix=nothing, max_new_tokens=120, stop_ids=frozenset(), device=CPU)
    assert len(own.token_ids) == 120
    assert is_looping(own.token_ids)
    assert len(read) < 60


def test_bfloat16_answers_stay_near_those_of_float32() -> None:
    exact = random_model("llama")
    rounded = copy.deepcopy(exact)
    for parameter in rounded.parameters():
        parameter.data = parameter.data.bfloat16()
    pairs = [(one[:4], one[4:]) for one in PROMPTS]
    likelihoods = [decoder_target_nll(Decoder(decoder_weights(one)), pairs, device=CPU) for one in (exact, rounded)]
    torch.testing.assert_close(likelihoods[1], likelihoods[0], rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("mistral", {"sliding_window": 8}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}}),
        ("llama", {"hidden_act": "gelu"}),
    ],
)
def test_what_it_does_not_compute_is_left_to_the_model_itself(model_type: str, changes: dict[str, Any]) -> None:
    assert not is_known(random_model(model_type, **changes))
