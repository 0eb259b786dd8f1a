"""Which files a stored student has, by role in its manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from baldistill.artifacts.ports import ArtifactStore, Manifest

ADAPTER_WEIGHTS_ROLE = "adapter_model"
ADAPTER_CONFIG_ROLE = "adapter_config"

# A file of the tokenizer has the role `tokenizer/<its name in an exported folder>`.
TOKENIZER_ROLE_PREFIX = "tokenizer/"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFiles:
    """A trained adapter on this machine: PEFT's configuration (JSON) and weights (safetensors)."""

    config: Path
    weights: Path


def adapter_files(store: ArtifactStore, student: Manifest) -> AdapterFiles:
    """Return a stored student's adapter as local files. Raises ArtifactMissing, ArtifactCorrupt."""
    return AdapterFiles(
        config=store.local_path(student.files[ADAPTER_CONFIG_ROLE]),
        weights=store.local_path(student.files[ADAPTER_WEIGHTS_ROLE]),
    )
