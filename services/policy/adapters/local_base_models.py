"""BaseModelCatalogue over the models that are mirrored in the store, and the folders of this machine."""

from __future__ import annotations

from baldistill.artifacts.ports import ArtifactStore
from baldistill.specs.frozen import FrozenBaseModel
from baldistill.student.base_models import resolve_base_model
from baldistill.student.mirroring import mirrored_weights


class LocalBaseModels:
    """Base models by the names that specs give them; nothing is downloaded. store: asked first, where there is one."""

    def __init__(self, store: ArtifactStore | None = None) -> None:
        self._store = store

    def describe(self, name: str) -> FrozenBaseModel:
        """Return name and weights' digest. Raises InvalidInput (field `student.base`)."""
        mirrored = mirrored_weights(self._store, name) if self._store is not None else None
        return FrozenBaseModel(name=name, weights_sha256=mirrored or resolve_base_model(name).weights_sha256)
