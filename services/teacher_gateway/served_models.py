"""Which models callers outside of runs may ask for, and who may (DESIGN 4). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from baldistill.errors import NotKnown
from baldistill.specs.runspec import TeacherSpec
from baldistill.tasks.bounds import price_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One model. tenants: who may ask for it; empty: everybody.   default_max_tokens: of an answer whose caller sets no
    limit; None: such a request is refused.
    """

    teacher: TeacherSpec
    tenants: frozenset[str] = frozenset()
    default_max_tokens: int | None = None

    @property
    def name(self) -> str:
        return self.teacher.model

    def is_for(self, tenant: str) -> bool:
        """Tell whether a tenant may ask for it."""
        return not self.tenants or tenant in self.tenants


class ServedModels:
    """All models of a gateway, by name."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        """Raises UnpricedTeacher: a model without a price has no bound, so it is not served at all."""
        for model in models:
            price_of(model.teacher)
        self._models = {model.name: model for model in models}

    def find(self, name: str, *, tenant: str) -> ServedModel:
        """Return a model. Raises NotKnown, alike for one that is not there and one that is another tenant's."""
        model = self._models.get(name)
        if model is None or not model.is_for(tenant):
            raise NotKnown(kind="model", name=name[:200], remedy="see /v1/models")
        return model

    def of(self, tenant: str) -> list[ServedModel]:
        """Return what a tenant may ask for, by name."""
        return [model for _, model in sorted(self._models.items()) if model.is_for(tenant)]
