"""Imports the data sets of the study from their originals, once: a data set that is there is left as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from baldistill.artifacts.ports import ArtifactStore
from baldistill.datasets.beside import SidePaths
from baldistill.datasets.importers.opening import OriginalOptions
from baldistill.datasets.importers.reuters_sgml import ReutersView
from baldistill.datasets.importing import import_dataset
from baldistill.datasets.longtail import Ladder
from baldistill.datasets.sources.formats import SourceFormat
from baldistill.datasets.storage import latest_version, load_dataset
from baldistill.datasets.thinning import store_long_tail

TENANT = "default"
TREC_LADDER = Ladder(test_per_domain=20, head=200, tail=3, min_items=60, seed=1)
MATH_LADDER = Ladder(test_per_domain=10, head=60, tail=4, min_items=60, seed=1)


def prepare(name: str, *, store: ArtifactStore, data: Path) -> None:
    """Import a data set that is not there yet. data: the folder of originals and converted sets."""
    if latest_version(store, tenant=TENANT, name=name) is None:
        _PREPARATIONS[name](store, data)


def _trec_lt(store: ArtifactStore, data: Path) -> None:
    raw = data / "raw"
    _import(store, "trec50", raw / "train_5500.label", raw / "TREC_10.label", source_format=SourceFormat.TREC)
    _cut(store, "trec50", TREC_LADDER, name="trec_lt")


def _math_lt(store: ArtifactStore, data: Path) -> None:
    options = OriginalOptions(skip_empty_answers=True)
    _import(store, "math", data / "raw" / "MATH.tar.gz", source_format=SourceFormat.MATH_FOLDER, options=options)
    _cut(store, "math", MATH_LADDER, name="math_lt")


def _reuters(name: str, view: ReutersView) -> Callable[[ArtifactStore, Path], None]:
    def prepare_view(store: ArtifactStore, data: Path) -> None:
        archive = data / "raw" / "reuters21578.tar.gz"
        options = OriginalOptions(reuters=view)
        _import(store, name, archive, source_format=SourceFormat.REUTERS_SGML, options=options)

    return prepare_view


def _mcqa(store: ArtifactStore, data: Path) -> None:
    folder = data / "mcqa"
    beside = SidePaths(oracle=folder / "tail_pool.jsonl.gz")
    _import(store, "mcqa", folder / "train.jsonl.gz", folder / "test.jsonl.gz", beside=beside)


def _absqa(store: ArtifactStore, data: Path) -> None:
    folder = data / "absqa"
    beside = SidePaths(aliases=(folder / "aliases.jsonl.gz",))
    _import(store, "absqa", folder / "train.jsonl.gz", folder / "test.jsonl.gz", beside=beside)


_PREPARATIONS: Mapping[str, Callable[[ArtifactStore, Path], None]] = {
    "trec_lt": _trec_lt,
    "math_lt": _math_lt,
    "r52": _reuters("r52", ReutersView.R52),
    "reuters_pairs": _reuters("reuters_pairs", ReutersView.PAIRS),
    "reuters_documents": _reuters("reuters_documents", ReutersView.DOCUMENTS),
    "mcqa": _mcqa,
    "absqa": _absqa,
}


def _import(
    store: ArtifactStore,
    name: str,
    train: Path,
    test: Path | None = None,
    *,
    source_format: SourceFormat = SourceFormat.AUTO,
    options: OriginalOptions | None = None,
    beside: SidePaths | None = None,
) -> None:
    import_dataset(
        store,
        tenant=TENANT,
        name=name,
        train=train,
        test=test,
        source_format=source_format,
        options=options,
        beside=beside,
    )


def _cut(store: ArtifactStore, source: str, ladder: Ladder, *, name: str) -> None:
    version = latest_version(store, tenant=TENANT, name=source)
    assert version is not None
    store_long_tail(store, load_dataset(store, tenant=TENANT, name=source, version=version), ladder, name=name)
