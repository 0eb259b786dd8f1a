"""TRL's side of `make bench-trainer`: `python trainer_trl.py WORK OUT DROPOUT DTYPE LOSS`, in the peer's own environment.

SFTTrainer on the same batches in the same order, from the same adapter, as fast as its documentation lets it be on a CPU:
gradient checkpointing off, no evaluation, saving or logging between steps but the loss. Its `packing`, `padding_free` and
Liger kernels need FlashAttention or a GPU. bfloat16: weights in bfloat16 and `bf16=True`; float32: neither.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class StepTimes(TrainerCallback):
    """Seconds from one step's end to the next one's; the first counts from the beginning of training."""

    def __init__(self):
        self.seconds = []
        self._last = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        self._last = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now


def train(work, *, dropout, dtype, loss, scratch):
    """Train on the batches; return losses and seconds by step, and peak memory."""
    torch.set_num_threads(work["threads"])
    model = AutoModelForCausalLM.from_pretrained(work["base"], dtype=getattr(torch, dtype))
    adapted = PeftModel.from_pretrained(model, work["adapter"], is_trainable=True)
    for module in adapted.modules():
        if isinstance(getattr(module, "lora_dropout", None), torch.nn.ModuleDict):
            module.lora_dropout["default"] = torch.nn.Dropout(dropout) if dropout > 0 else torch.nn.Identity()
    rows = [
        {"input_ids": [*prompt, *target], "labels": [-100] * len(prompt) + list(target)}
        for batch in work["batches"]
        for prompt, target in batch
    ]
    times = StepTimes()
    trainer = SFTTrainer(
        model=adapted,
        processing_class=AutoTokenizer.from_pretrained(work["base"]),
        train_dataset=Dataset.from_list(rows),
        callbacks=[times],
        args=SFTConfig(
            output_dir=scratch,
            use_cpu=True,
            bf16=dtype == "bfloat16",
            gradient_checkpointing=False,
            per_device_train_batch_size=len(work["batches"][0]),
            train_sampling_strategy="sequential",
            max_length=None,
            num_train_epochs=1,
            learning_rate=work["learning_rate"],
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=work["max_grad_norm"],
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            loss_type=loss,
        ),
    )
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    losses = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    weights = f"{work['adapter']}-trl.safetensors"
    state = {
        name.replace("base_model.model.", "", 1).replace(".default", ""): one.detach().float().contiguous()
        for name, one in adapted.named_parameters()
        if "lora_" in name
    }
    save_file({f"base_model.model.{name}": one for name, one in state.items()}, weights)
    return {
        "losses": losses,
        "seconds": times.seconds,
        "peak_mib": peak / 1024,
        "weights": weights,
        "setting": f"{dtype} {loss}",
    }


if __name__ == "__main__":
    work_file, out_file, dropout_share, dtype_name, loss_name = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        found = train(
            json.loads(Path(work_file).read_text()),
            dropout=float(dropout_share),
            dtype=dtype_name,
            loss=loss_name,
            scratch=folder,
        )
    Path(out_file).write_text(json.dumps(found))
