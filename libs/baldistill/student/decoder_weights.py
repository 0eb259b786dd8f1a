"""The weights of a Llama-like decoder, as its forward pass wants them: projections that share an input are one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from baldistill.student.projection import Projection, projection

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Each is compared with transformers' own forward pass by tests. What they share: RMSNorm before attention and before a
# gated MLP, rotary positions in two halves, grouped heads, a head without bias.
KNOWN_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen3"})

# Their rotary frequencies depend on the position alone; `dynamic` and `longrope` change them with the text's length.
_FIXED_ROPE_TYPES = frozenset({"default", "linear", "llama3"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """One layer. query_key_value, gate_up: stacked projections. query_norm, key_norm: of Qwen 3, over a head."""

    attention_norm: Tensor
    query_key_value: Projection
    query_norm: Tensor | None
    key_norm: Tensor | None
    output: Projection
    mlp_norm: Tensor
    gate_up: Projection
    down: Projection


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderWeights:
    """A whole decoder. rotary: transformers' module for cosines and sines.   scale: of attention scores."""

    embedding: Tensor
    layers: Sequence[LayerWeights]
    final_norm: Tensor
    head: Projection
    rotary: nn.Module
    norm_epsilon: float
    heads: int
    key_value_heads: int
    head_size: int
    scale: float

    @property
    def dtype(self) -> torch.dtype:
        """What matrix products are computed in."""
        return self.embedding.dtype

    @property
    def cache_bytes_per_token(self) -> int:
        """Keys and values of one token in all layers."""
        return len(self.layers) * 2 * self.key_value_heads * self.head_size * self.dtype.itemsize


def is_known(model: PreTrainedModel) -> bool:
    """Tell whether a model is what this forward pass computes: a known type, no windows, plain linear layers."""
    config: Any = model.config
    if config.model_type not in KNOWN_TYPES or getattr(config, "hidden_act", "") != "silu":
        return False
    if config.rope_parameters.get("rope_type", "default") not in _FIXED_ROPE_TYPES:
        return False
    if any(one != "full_attention" for one in getattr(config, "layer_types", None) or ()):
        return False
    if config.model_type == "mistral" and config.sliding_window is not None:
        return False
    # Adapters that are not merged and layers of 4 bits are other classes.
    linear = {type(module) for name, module in model.named_modules() if name.endswith(("_proj", "lm_head"))}
    return linear == {nn.Linear}


def decoder_weights(model: PreTrainedModel) -> DecoderWeights:
    """Return a known model's weights.

    The model's own layers have none afterwards, so that memory holds them once; where they cannot be packed they are views of
    the stacked ones. Raises ValueError for a model whose weights were taken already.
    """
    config: Any = model.config
    inner: Any = model.model
    attention: Any = inner.layers[0].self_attn
    return DecoderWeights(
        embedding=inner.embed_tokens.weight.data,
        layers=[_layer(one) for one in inner.layers],
        final_norm=inner.norm.weight.data,
        head=_head(model.get_output_embeddings(), embedding=inner.embed_tokens),
        rotary=inner.rotary_emb,
        norm_epsilon=config.rms_norm_eps,
        heads=config.num_attention_heads,
        key_value_heads=config.num_key_value_heads,
        head_size=attention.head_dim,
        scale=attention.scaling,
    )


def _layer(layer: Any) -> LayerWeights:
    attention, mlp = layer.self_attn, layer.mlp
    return LayerWeights(
        attention_norm=layer.input_layernorm.weight.data,
        query_key_value=_stacked(attention.q_proj, attention.k_proj, attention.v_proj),
        query_norm=_norm_of_heads(attention, "q_norm"),
        key_norm=_norm_of_heads(attention, "k_norm"),
        output=_stacked(attention.o_proj),
        mlp_norm=layer.post_attention_layernorm.weight.data,
        gate_up=_stacked(mlp.gate_proj, mlp.up_proj),
        down=_stacked(mlp.down_proj),
    )


def _norm_of_heads(attention: Any, name: str) -> Tensor | None:
    norm = getattr(attention, name, None)
    return None if norm is None else norm.weight.data


def _head(head: Any, *, embedding: Any) -> Projection:
    """Return the product that makes logits. Where the head is the embedding, whose rows are looked up, both copies stay."""
    projected = projection(head.weight.data)
    if projected.is_packed and head.weight is not embedding.weight:
        _forget(head)
    return projected


def _stacked(*modules: Any) -> Projection:
    """Stack projections of one input."""
    if not all(one.weight.numel() for one in modules):
        raise ValueError("the weights of this model are another decoder's already")
    weight = torch.cat([one.weight.data for one in modules])
    bias = None if modules[0].bias is None else torch.cat([one.bias.data for one in modules])
    projected = projection(weight, bias)
    start = 0
    for one in modules:
        end = start + one.out_features
        if projected.is_packed:
            _forget(one)
        else:
            one.weight.data = weight[start:end]
            if bias is not None:
                one.bias.data = bias[start:end]
        start = end
    return projected


def _forget(module: Any) -> None:
    # Of no size, so that the model's own forward pass fails; on the device `meta` torch would multiply by anything (2.15).
    module.weight = nn.Parameter(module.weight.new_empty(0, 0), requires_grad=False)
