"""BaseModelCatalogue over the folders of this machine."""

from __future__ import annotations

from baldistill.specs.frozen import FrozenBaseModel
from baldistill.student.base_models import resolve_base_model


class LocalBaseModels:
    """Base models by the names that specs give them; nothing is downloaded."""

    def describe(self, name: str) -> FrozenBaseModel:
        """Return name and weights' digest. Raises InvalidInput (field `student.base`)."""
        return FrozenBaseModel(name=name, weights_sha256=resolve_base_model(name).weights_sha256)
