"""A packed forward pass over the weights of a Hugging Face Llama with PEFT's adapters (ADR 42)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from baldistill.student.dropout import SeededDropout
from baldistill.student.packed.attention import HeadShape, PackedAttention, Rotation
from baldistill.student.packed.head import TokenNll
from baldistill.student.packed.layers import AdaptedLinear, Adapter, RmsNorm, Swiglu
from baldistill.student.packed.packing import Pack, pack_rows
from baldistill.student.scoring import PromptAndTarget

if TYPE_CHECKING:
    from peft import PeftModel

_ADAPTER = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class _DecoderLayer:
    projections: AdaptedLinear
    output: AdaptedLinear
    gate_and_up: AdaptedLinear
    down: AdaptedLinear
    before_attention: Tensor
    before_mlp: Tensor


class PackedLlama:
    """The loss of rows as one pack. It reads the model's own tensors: what an optimizer changes is seen at once."""

    pads = False

    def __init__(self, adapted: PeftModel) -> None:
        """adapted: `supports` it. Its frozen layers that read the same input become views of one tensor."""
        causal: Any = adapted.get_base_model()
        config = causal.config
        self._model = causal.model
        self._head: Tensor = causal.lm_head.weight
        self._eps: float = config.rms_norm_eps
        key_heads = config.num_key_value_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._shape = HeadShape(heads=config.num_attention_heads, key_heads=key_heads, size=size)
        self._layers = [_layer(one) for one in self._model.layers]

    def target_token_nll(self, pairs: Sequence[PromptAndTarget]) -> Tensor:
        """Return the NLL of every target token, row after row, shape (target tokens,), float32, with gradient."""
        pack = pack_rows(pairs, device=self._head.device)
        hidden = nn.functional.embedding(pack.ids, self._model.embed_tokens.weight)
        cos, sin = self._model.rotary_emb(hidden[None], position_ids=pack.positions[None])
        rotation = Rotation(cos=cos[0, :, None].float(), sin=sin[0, :, None].float())
        for layer in self._layers[:-1]:
            hidden = self._decode(layer, hidden, rotation, pack)
        hidden = self._decode(self._layers[-1], hidden, rotation, pack, kept=pack.predicting)
        normed = RmsNorm.apply(hidden, self._model.norm.weight, self._eps)
        nll: Tensor = TokenNll.apply(normed, self._head, pack.wanted)
        return nll

    def _decode(
        self, layer: _DecoderLayer, hidden: Tensor, rotation: Rotation, pack: Pack, *, kept: Tensor | None = None
    ) -> Tensor:
        """Pass tokens through a layer, shape (t, hidden); `kept`: behind its attention only these go on."""
        projected = layer.projections(RmsNorm.apply(hidden, layer.before_attention, self._eps))
        attended = PackedAttention.apply(projected, rotation, pack, self._shape)
        if kept is not None:
            attended, hidden = attended[kept], hidden[kept]
        hidden = hidden + layer.output(attended)
        gated = Swiglu.apply(layer.gate_and_up(RmsNorm.apply(hidden, layer.before_mlp, self._eps)))
        return hidden + layer.down(gated)


def supports(adapted: PeftModel) -> bool:
    """Tell whether a model is a Llama as `PackedLlama` computes it: on the CPU, its layers in one floating-point type."""
    causal: Any = adapted.get_base_model()
    config = causal.config
    weights = {parameter.dtype for parameter in causal.model.parameters() if not parameter.requires_grad}
    return (
        type(causal).__name__ == "LlamaForCausalLM"
        and config.hidden_act == "silu"
        and causal.device.type == "cpu"
        and len(weights) == 1
        and weights <= {torch.float32, torch.bfloat16}
        and type(causal.lm_head) is nn.Linear
    )


def _layer(layer: Any) -> _DecoderLayer:
    attention, mlp = layer.self_attn, layer.mlp
    return _DecoderLayer(
        projections=_joined(attention.q_proj, attention.k_proj, attention.v_proj),
        output=_joined(attention.o_proj),
        gate_and_up=_joined(mlp.gate_proj, mlp.up_proj),
        down=_joined(mlp.down_proj),
        before_attention=layer.input_layernorm.weight,
        before_mlp=layer.post_attention_layernorm.weight,
    )


def _joined(*modules: Any) -> AdaptedLinear:
    """Make layers that read the same input one product."""
    bases = [getattr(one, "base_layer", one) for one in modules]
    weight = torch.cat([one.weight.detach() for one in bases]) if len(bases) > 1 else bases[0].weight.detach()
    adapters: list[Adapter] = []
    dropout: SeededDropout | None = None
    start = 0
    for module, base in zip(modules, bases, strict=True):
        outputs = slice(start, start + base.out_features)
        # The module keeps its weight as a view, so that nothing is in memory twice.
        base.weight.data = weight[outputs]
        start = outputs.stop
        if module is not base:
            adapters.append(
                Adapter(
                    a=module.lora_A[_ADAPTER].weight,
                    b=module.lora_B[_ADAPTER].weight,
                    scale=module.scaling[_ADAPTER],
                    outputs=outputs,
                )
            )
            if isinstance(module.lora_dropout[_ADAPTER], SeededDropout):
                dropout = module.lora_dropout[_ADAPTER]
    return AdaptedLinear(weight=weight, bias=_joined_bias(bases), adapters=tuple(adapters), dropout=dropout)


def _joined_bias(layers: Sequence[Any]) -> Tensor | None:
    if all(one.bias is None for one in layers):
        return None
    return torch.cat(
        [one.weight.new_zeros(one.out_features) if one.bias is None else one.bias.detach() for one in layers]
    )
