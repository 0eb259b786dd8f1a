"""A person's price file in YAML: prices that override the published ones, and those of models that nobody publishes."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from baldistill.errors import InvalidInput
from baldistill.specs.runspec import PriceSpec, SpecModel

EXAMPLE = """models:
  - model: {model}
    input_usd_per_million_tokens: 0.15
    output_usd_per_million_tokens: 0.60
"""


class FiledPrice(PriceSpec):
    """One model's price. base_url: of the provider that it is the price of; none: of every provider."""

    model: str = Field(min_length=1, description="as specs name it, to the letter")
    base_url: str | None = Field(default=None, description="only for teachers at this URL; default: at any")

    def is_of(self, *, model: str, base_url: str | None) -> bool:
        """Tell whether it is the price of a teacher."""
        wanted = None if self.base_url is None else self.base_url.rstrip("/")
        return self.model == model and (wanted is None or wanted == (base_url or "").rstrip("/"))


class PriceFile(SpecModel):
    """All prices of a file. The first that fits counts, one with a URL before those without."""

    models: tuple[FiledPrice, ...] = Field(default=(), description="prices, one per model and provider")

    def find(self, *, model: str, base_url: str | None) -> FiledPrice | None:
        """Return the price of a model at a provider."""
        fitting = [one for one in self.models if one.is_of(model=model, base_url=base_url)]
        return min(fitting, key=lambda one: one.base_url is None, default=None)


def read_price_file(path: Path) -> PriceFile:
    """Read a price file; one that is not there has no prices. Raises InvalidInput that names the file and the field."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return PriceFile()
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidInput(f"cannot be read: {str(error).splitlines()[0]}", path=path) from error
    try:
        return PriceFile.model_validate(values or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidInput(first["msg"], path=path, field=".".join(str(step) for step in first["loc"])) from error
