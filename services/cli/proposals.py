"""From a spec to a proposal in the embedded mode: imports the data where the spec names a file for it."""

from __future__ import annotations

from pathlib import Path

from baldistill.datasets.importing import import_dataset
from baldistill.datasets.storage import latest_version
from baldistill.pricing.book import PriceBook
from baldistill.specs.loading import blaming_spec
from baldistill.specs.runspec import RunSpec
from services.cli.home import Home
from services.cli.output import MESSAGES
from services.policy.adapters.local_base_models import LocalBaseModels
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.submission import Proposal, find_frozen, frozen_version, propose, with_version


def propose_from(spec: RunSpec, *, home: Home, spec_path: Path) -> Proposal:
    """Look up everything that a spec names. Raises InvalidInput.

    A run that was submitted before keeps the data set version and the price it was frozen with, unless the spec names others.
    """
    known = find_frozen(spec, store=home.store, registry=SqlRunRegistry(home.engine))
    if spec.dataset.version is None:
        version = frozen_version(spec, known)
        if version is None:
            _import_where_missing(spec, home=home, spec_path=spec_path)
        else:
            spec = with_version(spec, version)
    with blaming_spec(spec_path):
        return propose(
            spec,
            store=home.store,
            base_models=LocalBaseModels(home.store),
            prices=PriceBook.at(home.layout.prices),
            known=known,
        )


def _import_where_missing(spec: RunSpec, *, home: Home, spec_path: Path) -> None:
    source = spec.dataset
    if source.train is None or latest_version(home.store, tenant=spec.tenant, name=source.name) is not None:
        return
    folder = spec_path.parent
    result = import_dataset(
        home.store,
        tenant=spec.tenant,
        name=source.name,
        train=folder / source.train,
        test=folder / source.test if source.test else None,
    )
    MESSAGES.print(f"Imported data set {source.name}, version {result.dataset.version}.")
