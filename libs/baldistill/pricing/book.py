"""The price book: which price counts for a teacher, where it comes from, and its version, which each ledger entry books."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from baldistill.errors import InvalidInput
from baldistill.pricing.price_file import EXAMPLE, PriceFile, read_price_file
from baldistill.pricing.published import published_price, published_version
from baldistill.specs.runspec import PriceSpec, TeacherSpec
from baldistill.tasks.bounds import UnpricedTeacher

# The version of a teacher in this process that has no price.
FREE = "free"
_NOTHING = PriceSpec.model_validate({"input_usd_per_million_tokens": 0, "output_usd_per_million_tokens": 0})


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedPrice:
    """A price. version: names source and price; equal prices of one source have equal versions.   source: for people."""

    price: PriceSpec
    version: str
    source: str


class PriceBook:
    """Prices of teachers. path: of the person's file, to be named where a price is missing; None: there is no such file.

    file_binds: the file is an operator's and specs are others': a spec that states less than the file is refused, as a
    ceiling in USD would not hold.
    """

    def __init__(
        self,
        file: PriceFile,
        *,
        path: Path | None,
        file_binds: bool = False,
        published: Callable[..., PriceSpec | None] = published_price,
    ) -> None:
        self.file = file
        self.path = path
        self._file_binds = file_binds
        self._published = published

    @classmethod
    def at(cls, path: Path | None, *, file_binds: bool = False) -> Self:
        """Open the book over a file, which need not be there. Raises InvalidInput."""
        return cls(PriceFile() if path is None else read_price_file(path), path=path, file_binds=file_binds)

    def price_of(self, teacher: TeacherSpec) -> BookedPrice:
        """Return a teacher's price: the spec's, the file's, the published one. Raises UnpricedTeacher, InvalidInput."""
        if teacher.price is not None:
            self._require_enough(teacher, teacher.price)
            return _booked(teacher.price, kind="spec", source="the spec's teacher.price")
        if teacher.kind != "openai":
            return BookedPrice(price=_NOTHING, version=FREE, source="a teacher in this process costs nothing")
        if (filed := self.file.find(model=teacher.model, base_url=teacher.base_url)) is not None:
            price = PriceSpec(
                input_usd_per_million_tokens=filed.input_usd_per_million_tokens,
                output_usd_per_million_tokens=filed.output_usd_per_million_tokens,
            )
            return _booked(price, kind="file", source=str(self.path))
        known = self._published(model=teacher.model, base_url=teacher.base_url or "")
        if known is None:
            raise UnpricedTeacher(model=teacher.model, remedy=self._remedy(teacher))
        return _booked(known, kind=published_version(), source=f"published, {published_version()}")

    def priced(self, teacher: TeacherSpec) -> TeacherSpec:
        """Return the teacher with its price in the spec, from where bounds and bookings take it. Raises UnpricedTeacher."""
        return teacher.model_copy(update={"price": self.price_of(teacher).price})

    def _require_enough(self, teacher: TeacherSpec, stated: PriceSpec) -> None:
        filed = self.file.find(model=teacher.model, base_url=teacher.base_url) if self._file_binds else None
        if filed is None:
            return
        for name in ("input_usd_per_million_tokens", "output_usd_per_million_tokens"):
            if getattr(stated, name) < getattr(filed, name):
                reason = (
                    f"states less than the {getattr(filed, name)} that {teacher.model} costs here; leave the price out"
                )
                raise InvalidInput(reason, field=f"teacher.price.{name}")

    def _remedy(self, teacher: TeacherSpec) -> str:
        where = (
            "set teacher.price in the spec"
            if self.path is None
            else f"write its price into {self.path}, or set teacher.price in the spec. The file looks so:\n"
            + EXAMPLE.format(model=teacher.model)
        )
        return f"at {teacher.base_url}: the published prices ({published_version()}) do not know it there; {where}"


def _booked(price: PriceSpec, *, kind: str, source: str) -> BookedPrice:
    digest = hashlib.sha256(price.model_dump_json().encode()).hexdigest()[:12]
    return BookedPrice(price=price, version=f"{kind}-{digest}", source=source)
