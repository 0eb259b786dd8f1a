"""A student in memory: base weights, perhaps an adapter, tokenizer, and what its tokens mean."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from baldistill.errors import InvalidInput
from baldistill.student.base_models import BaseModel
from baldistill.student.decoder import Decoder
from baldistill.student.decoder_weights import decoder_weights, is_known
from baldistill.student.files import AdapterFiles
from baldistill.student.lora import attach_trained
from baldistill.student.precision import StudentDtype, compute_device
from baldistill.student.quiet import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class Student:
    """A causal language model with its tokenizer, on `device`."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    base: BaseModel
    dtype: StudentDtype

    @property
    def device(self) -> torch.device:
        return compute_device()

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer: the tokenizer's EOS and those that the model itself stops at."""
        configured = self.model.generation_config.eos_token_id
        own = configured if isinstance(configured, list) else [configured]
        return frozenset(one for one in (self.tokenizer.eos_token_id, *own) if one is not None)

    @cached_property
    def decoder(self) -> Decoder | None:
        """The forward pass of this package over the model's weights; None where it does not know the model (ADR 39)."""
        if self.device.type != "cpu" or not is_known(self.model):
            return None
        return Decoder(decoder_weights(self.model))

    @property
    def unconditioned_prefix_id(self) -> int:
        """What stands before `y` where there is no prompt: BOS, or EOS where the tokenizer has none (DESIGN 2.3)."""
        bos = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if bos is None else bos)

    @property
    def context_tokens(self) -> int:
        """The longest text that the base model was made for, in tokens."""
        return int(getattr(self.model.config, "max_position_embeddings", 0) or 1 << 30)


def load_tokenizer(base: BaseModel) -> PreTrainedTokenizerFast:
    """Return the base model's tokenizer. Raises InvalidInput where it has no EOS."""
    with quiet_transformers():
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(base.folder, local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise InvalidInput(
            "the tokenizer has no EOS token: no answer could end", path=base.folder, field="student.base"
        )
    return tokenizer


def load_student(base: BaseModel, *, dtype: StudentDtype, adapter: AdapterFiles | None = None) -> Student:
    """Load a student that writes and is scored; gradients off.

    The adapter is merged in float32 and cast once. On nf4 it stays beside the base: merging into 4 bits loses it.
    """
    model = load_base_weights(base, dtype=StudentDtype.FLOAT32 if dtype is not StudentDtype.NF4 else dtype)
    if adapter is not None:
        with_adapter = attach_trained(model, adapter)
        model = with_adapter if dtype is StudentDtype.NF4 else with_adapter.merge_and_unload()
    if dtype is StudentDtype.BFLOAT16:
        cast_parameters(model, dtype.compute_dtype)
    model.requires_grad_(requires_grad=False)
    model.eval()
    return Student(model=model, tokenizer=load_tokenizer(base), base=base, dtype=dtype)


def load_trainable_base(base: BaseModel, *, dtype: StudentDtype) -> Student:
    """Load a base model that an adapter is going to be attached to; its own weights are frozen."""
    model = load_base_weights(base, dtype=dtype if dtype is StudentDtype.NF4 else StudentDtype.FLOAT32)
    if dtype is StudentDtype.BFLOAT16:
        cast_parameters(model, dtype.compute_dtype)
    model.requires_grad_(requires_grad=False)
    return Student(model=model, tokenizer=load_tokenizer(base), base=base, dtype=dtype)


def load_base_weights(base: BaseModel, *, dtype: StudentDtype) -> PreTrainedModel:
    """Read the safetensors of a base model in float32, or quantised to 4 bits on CUDA."""
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
    options |= _nf4_options() if dtype is StudentDtype.NF4 else {"dtype": torch.float32}
    with quiet_transformers():
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(base.folder, **options)
    return model if dtype is StudentDtype.NF4 else model.to(compute_device())


def cast_parameters(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Cast the weights alone: `model.to(dtype)` would also round the rotary frequencies, which stay in float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def _nf4_options() -> dict[str, Any]:
    try:
        importlib.import_module("bitsandbytes")
    except ImportError:
        raise InvalidInput(
            "nf4 (QLoRA) needs the package bitsandbytes: pip install 'baldistill[qlora]', or set bfloat16",
            field="student.dtype",
        ) from None
    from transformers import BitsAndBytesConfig

    # QLoRA's setting (arXiv 2305.14314 section 3): nf4, double quantisation, bfloat16 compute.
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": quantisation, "device_map": {"": 0}, "dtype": torch.bfloat16}
