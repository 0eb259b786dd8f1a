"""LoRA adapters by PEFT: fresh ones for training, trained ones for use (DESIGN 2, text and tokens)."""

from __future__ import annotations

import json
import math
import warnings
from typing import TYPE_CHECKING, Any

import rfc8785
import torch
from torch import Tensor, nn

from baldistill.errors import InvalidInput
from baldistill.specs.runspec import LoraSpec
from baldistill.student.dropout import SeededDropout
from baldistill.student.files import AdapterFiles

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

_ADAPTER = "default"


def attach_fresh(model: PreTrainedModel, lora: LoraSpec, *, base_name: str, rng: torch.Generator) -> PeftModel:
    """Put an untrained adapter on a frozen base; its weights and its dropout come from `rng`.

    PEFT would draw both from torch's global generator, which every thread of the process shares.
    Raises InvalidInput (field `student.lora.targets`).
    """
    from peft import LoraConfig

    _require_targets(model, lora.targets)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        bias="none",
    )
    adapted = _adapted(model, config)
    # PEFT puts the folder that the base was loaded from, which is another one on each machine.
    adapted.peft_config[_ADAPTER].base_model_name_or_path = base_name
    for name, parameter in sorted(adapted.named_parameters()):
        if ".lora_A." in name:
            # PEFT's own initialisation, Linear's default: LoRA's paper starts from B = 0.
            nn.init.kaiming_uniform_(parameter, a=math.sqrt(5), generator=rng)
    for module in adapted.modules():
        if lora.dropout > 0 and isinstance(getattr(module, "lora_dropout", None), nn.ModuleDict):
            module.lora_dropout[_ADAPTER] = SeededDropout(lora.dropout, rng=rng)
    return adapted


def attach_trained(model: PreTrainedModel, adapter: AdapterFiles) -> PeftModel:
    """Put a trained adapter on its base, for use only. Raises InvalidInput where the weights do not fit."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    config = _config_from_json(json.loads(adapter.config.read_text()))
    adapted = _adapted(model, config)
    outcome = set_peft_model_state_dict(adapted, load_file(adapter.weights), adapter_name=_ADAPTER)
    if outcome.unexpected_keys:
        raise InvalidInput(
            f"the adapter does not fit its base model: {outcome.unexpected_keys[0]}", path=adapter.weights
        )
    return adapted


def trainable_parameters(adapted: PeftModel) -> dict[str, nn.Parameter]:
    """Return the adapter's parameters by name, in name order."""
    return {name: one for name, one in sorted(adapted.named_parameters()) if one.requires_grad}


def adapter_weights(adapted: PeftModel) -> dict[str, Tensor]:
    """Return the adapter's weights under the names that PEFT stores them by, float32 on the CPU."""
    from peft import get_peft_model_state_dict

    # "auto" would ask the hub whether the vocabulary was changed; no target is an embedding.
    state = get_peft_model_state_dict(adapted, adapter_name=_ADAPTER, save_embedding_layers=False)
    return {name: state[name].detach().float().cpu().contiguous() for name in sorted(state)}


def canonical_adapter_config(adapted: PeftModel) -> bytes:
    """Return adapter_config.json in RFC 8785 form: PEFT writes sets in hash order, so never the same bytes twice."""
    config = adapted.peft_config[_ADAPTER].to_dict() | {"inference_mode": True}
    return bytes(rfc8785.dumps(_plain(config)))


def _adapted(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    from peft import get_peft_model

    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5.23 for a property by its old name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        return get_peft_model(model, config, adapter_name=_ADAPTER)


def _config_from_json(values: dict[str, Any]) -> LoraConfig:
    from peft import LoraConfig

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=values["r"],
        lora_alpha=values["lora_alpha"],
        lora_dropout=0.0,
        target_modules=list(values["target_modules"]),
        bias="none",
    )
    config.inference_mode = True
    return config


def _require_targets(model: nn.Module, targets: tuple[str, ...]) -> None:
    # 4-bit layers of bitsandbytes are Linear too.
    linear = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    unknown = sorted(set(targets) - linear)
    if unknown:
        raise InvalidInput(
            f"the base model has no linear layer named {', '.join(unknown)}; it has {', '.join(sorted(linear))}",
            field="student.lora.targets",
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(one) for one in value)
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(getattr(value, "value", value))
