"""A random Llama of a few thousand weights with a tokenizer of its own: student compute in milliseconds, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from baldistill.student.quiet import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Enough text to learn some merges from; bytes cover the rest.
_CORPUS = (
    "You classify texts. Labels: Text: Which label fits? Answer: billing refund login delivery",
    "The customer asks about a refund, so the label is billing. Why does the order not arrive in time?",
    "How do I reset the password of my account? The question names a password, so the label is login.",
)


def build_tiny_student(
    folder: Path, *, corpus: Iterable[str] = _CORPUS, hidden: int = 32, layers: int = 2, seed: int = 1
) -> Path:
    """Write a model folder that `student.base` can name: equal bytes for equal arguments. Returns `folder`.

    Pad is EOS, as in SmolLM2, and there is no BOS: what goes wrong with either goes wrong here too.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(corpus)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            # Norms stay 1; the rest is large enough that different prompts get different answers.
            if parameter.dim() > 1:
                parameter.normal_(mean=0.0, std=0.3, generator=rng)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(corpus: Iterable[str]) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(corpus, trainer=trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=_SPECIAL[2],
        pad_token=_SPECIAL[2],
        additional_special_tokens=list(_SPECIAL[:2]),
        chat_template=_CHAT_TEMPLATE,
    )
