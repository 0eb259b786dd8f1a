"""Which folder a base model's name means, and whether its weights are the ones that the run was frozen with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from baldistill.errors import InvalidInput
from baldistill.student.demo_student import DEMO_STUDENT, demo_student_folder

FIELD = "student.base"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A base model on this machine: a folder that transformers reads, with safetensors weights and a tokenizer."""

    name: str
    folder: Path
    weights_sha256: str


def resolve_base_model(name: str) -> BaseModel:
    """Find a base model by the name that a spec gives it: the demo student, a local folder or a cached hub id.

    Nothing is downloaded. Raises InvalidInput (field `student.base`), which says what to do.
    """
    folder = demo_student_folder() if name == DEMO_STUDENT else _local_folder(name) or _cached_folder(name)
    _require_model(name, folder)
    return BaseModel(name=name, folder=folder, weights_sha256=weights_sha256(folder))


def require_same_weights(base: BaseModel, expected_sha256: str) -> None:
    """Refuse a base model that is not the one an adapter or a run was made with. Raises InvalidInput."""
    if base.weights_sha256 != expected_sha256:
        raise InvalidInput(
            f"base model '{base.name}' has weights {base.weights_sha256[:12]}, the run was made with"
            f" {expected_sha256[:12]}; put the earlier weights back, or start a new run",
            path=base.folder,
            field=FIELD,
        )


def weights_sha256(folder: Path) -> str:
    """Return the sha256 of the safetensors files' digests (hex, one a line) in name order."""
    whole = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").hexdigest().encode() + b"\n")
    return whole.hexdigest()


def _local_folder(name: str) -> Path | None:
    path = Path(name).expanduser()
    return path.resolve() if path.is_dir() else None


def _cached_folder(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError:
        # Images without student compute: there is no such cache.
        raise _unknown(name) from None
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        raise _unknown(name) from None


def _unknown(name: str) -> InvalidInput:
    return InvalidInput(
        f"unknown model '{name}': neither '{DEMO_STUDENT}', nor a local folder, nor in the local Hugging Face cache;"
        f" download it first (hf download {name}) or give the path of a folder; in a cluster mirror it"
        f" (baldistill models mirror {name} --cluster)",
        field=FIELD,
    )


def _require_model(name: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InvalidInput(f"'{name}' is not a model folder: it has no config.json", path=folder, field=FIELD)
    if not any(folder.glob("*.safetensors")):
        raise InvalidInput(
            f"'{name}' has no *.safetensors file; convert it (pickled weights are never loaded)",
            path=folder,
            field=FIELD,
        )
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise InvalidInput(f"'{name}' has no tokenizer file (tokenizer.json)", path=folder, field=FIELD)
