"""Base models in the artifact store: mirrored there once, taken from there by machines that lack them (DESIGN 6)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from baldistill.artifacts.layout import base_model_folder, base_model_manifest
from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.artifacts.scratch import storage_full
from baldistill.errors import AlreadyThere, InvalidInput
from baldistill.student.base_models import BaseModel, weights_sha256
from baldistill.student.demo_student import model_cache

# What transformers reads of a model whose weights are safetensors. Never pickled weights, never code.
_MIRRORED = (".safetensors", ".json", ".txt", ".model", ".jinja")
_WEIGHTS = "weights_sha256"


def mirror_base_model(
    store: ArtifactStore,
    base: BaseModel,
    *,
    name: str,
    on_stored: Callable[[str, int], None] = lambda _file, _bytes: None,
) -> Manifest:
    """Store a base model's files under `models/<name>`; again, it changes nothing.

    on_stored: told each file's name and size. Raises AlreadyThere where the name stands for other weights.
    """
    there = store.find_manifest(base_model_manifest(name=name))
    if there is None:
        files = {}
        for path in files_to_mirror(base.folder):
            files[path.name] = store.put_file(folder=base_model_folder(name=name), name=path.name, source=path)
            on_stored(path.name, files[path.name].size_bytes)
        there = store.create_manifest(
            Manifest(key=base_model_manifest(name=name), files=files, attributes={_WEIGHTS: base.weights_sha256})
        )
    if there.attributes[_WEIGHTS] != base.weights_sha256:
        difference = f"its weights are {str(there.attributes[_WEIGHTS])[:12]}, these are {base.weights_sha256[:12]}"
        raise AlreadyThere(kind="mirrored model", name=name, difference=difference)
    return there


def files_to_mirror(folder: Path) -> list[Path]:
    """Return a model folder's files that a mirror needs, in name order."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _MIRRORED)


def mirrored_weights(store: ArtifactStore, name: str) -> str | None:
    """Return the digest of a mirrored model's weights; None where there is none of that name, or no such key can be."""
    manifest = _find(store, name)
    return None if manifest is None else str(manifest.attributes[_WEIGHTS])


def take_mirrored(store: ArtifactStore, name: str) -> BaseModel | None:
    """Return a mirrored model as a folder on this machine, brought here at the first call; None where there is none.

    The folder shares its files with the store's read cache where both are on one file system. Safe when two processes
    do it at once. Raises ArtifactMissing, ArtifactCorrupt, StorageFull, DependencyUnavailable.
    """
    manifest = _find(store, name)
    if manifest is None:
        return None
    folder = model_cache() / "mirrored" / store.manifest_ref(manifest).sha256
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _bring(store, manifest, folder)
    return BaseModel(name=name, folder=folder, weights_sha256=weights_sha256(folder))


def _find(store: ArtifactStore, name: str) -> Manifest | None:
    # A path on some machine, and no name: nothing is mirrored under it.
    try:
        return store.find_manifest(base_model_manifest(name=name))
    except InvalidInput:
        return None


def _bring(store: ArtifactStore, manifest: Manifest, folder: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=".incoming-", dir=folder.parent))
    try:
        with storage_full(folder.parent):
            for file, ref in manifest.files.items():
                _link_or_copy(store.local_path(ref), scratch / file)
            scratch.rename(folder)
    except OSError:
        # The loser's rename fails because the winner's folder is not empty.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another file system, or one without hard links.
        shutil.copyfile(source, target)
