"""How a trained student lies in the store: PEFT's two files and the tokenizer, named by one manifest."""

from __future__ import annotations

import tempfile
from pathlib import Path

from safetensors.torch import save

from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.specs.frozen import FrozenRun
from baldistill.student.base_models import BaseModel
from baldistill.student.files import ADAPTER_CONFIG_ROLE, ADAPTER_WEIGHTS_ROLE, TOKENIZER_ROLE_PREFIX
from baldistill.student.loading import load_tokenizer
from services.trainer.training import TrainedAdapter

# transformers writes these with the safetensors header that readers expect.
_SAFETENSORS_METADATA = {"format": "pt"}


def store_student(
    store: ArtifactStore, frozen: FrozenRun, trained: TrainedAdapter, *, stage: int, base: BaseModel
) -> Manifest:
    """Store a student and return its manifest, or the one that was there before.

    No time, path, host or run id in any of it: equal for equal specs (DESIGN 5). Raises StorageFull.
    """
    layout = frozen.layout.stage(stage)
    folder = layout.student.removesuffix(".json")
    weights = save(trained.weights, metadata=_SAFETENSORS_METADATA)
    files = {
        ADAPTER_WEIGHTS_ROLE: store.put_bytes(folder=folder, name="adapter_model.safetensors", data=weights),
        ADAPTER_CONFIG_ROLE: store.put_bytes(folder=folder, name="adapter_config.json", data=trained.config),
    }
    with tempfile.TemporaryDirectory(prefix="baldistill-") as scratch:
        load_tokenizer(base).save_pretrained(scratch)
        for path in sorted(Path(scratch).iterdir()):
            files[f"{TOKENIZER_ROLE_PREFIX}{path.name}"] = store.put_file(folder=folder, name=path.name, source=path)
    return store.create_manifest(
        Manifest(
            key=layout.student,
            files=files,
            rows=trained.rows,
            attributes={
                "base_model": frozen.base_model.name,
                "base_weights_sha256": frozen.base_model.weights_sha256,
                "prompt_style": frozen.spec.student.prompt_style,
                "steps": trained.steps,
                "rows": trained.rows,
                "target_tokens": trained.target_tokens,
                "inputs_cut": trained.inputs_cut,
                "final_loss": trained.final_loss,
                "bit_exact": trained.bit_exact,
            },
        )
    )
