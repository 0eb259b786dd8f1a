"""`baldistill data`: import data sets, list them, and see their long tail."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from baldistill.artifacts.ports import ArtifactStore
from baldistill.datasets.beside import SidePaths
from baldistill.datasets.examples import Dataset
from baldistill.datasets.fields import FieldMap, parse_field_map
from baldistill.datasets.held_out import LARGEST_SHARE
from baldistill.datasets.importers.opening import OriginalOptions
from baldistill.datasets.importers.reuters_sgml import ReutersView
from baldistill.datasets.importing import ImportResult, import_dataset
from baldistill.datasets.longtail import Ladder
from baldistill.datasets.sources.formats import SourceFormat
from baldistill.datasets.storage import latest_version, list_datasets, list_versions, load_dataset
from baldistill.datasets.thinning import store_long_tail
from baldistill.errors import InvalidInput
from services.cli.home import DEFAULT_HOME, Home, HomeOption, JsonOption, TenantOption
from services.cli.import_progress import ImportProgress
from services.cli.long_tail import head_to_tail, print_long_tail
from services.cli.output import RESULTS, print_json

data_app = typer.Typer(help="Import data sets, list them, and see their long tail.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the data set, as run specs use it.")]


@data_app.command("import")
def import_command(
    name: NameArgument,
    train: Annotated[Path, typer.Option("--train", help="File or folder of the pool's rows.")],
    test: Annotated[
        Path | None, typer.Option("--test", help="File of test rows. Without it a part of each domain is held out.")
    ] = None,
    source_format: Annotated[
        SourceFormat, typer.Option("--format", help="hf: a folder written by datasets' save_to_disk().")
    ] = SourceFormat.AUTO,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="OURS=THEIRS", help="What the file calls a field; with commas, or repeated."),
    ] = None,
    make_ids: Annotated[
        bool, typer.Option("--make-ids", help="Number rows that have no id: row-1, row-2, ...")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Decides which rows are held out.")] = 1,
    held_out_share: Annotated[
        str | None,
        typer.Option(
            "--held-out-share", help="Share of each domain that is held out: above 0, at most (and by default) 0.2."
        ),
    ] = None,
    reuters: Annotated[
        ReutersView, typer.Option("--reuters", help="What an example of reuters-sgml is: r52, pairs or documents.")
    ] = ReutersView.R52,
    skip_empty_answers: Annotated[
        bool, typer.Option("--skip-empty-answers", help="math-folder: leave out problems whose answer is empty.")
    ] = False,
    rationales: Annotated[
        list[Path] | None, typer.Option("--rationales", help="JSONL with id and rationale; may be repeated.")
    ] = None,
    aliases: Annotated[
        list[Path] | None,
        typer.Option("--aliases", help="JSONL with id and answers, all accepted ones; may be repeated."),
    ] = None,
    oracle: Annotated[
        Path | None, typer.Option("--oracle", help="Rows that stand in for what a teacher would invent.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Import rows with the fields id, domain, input and answer; all of them text.

    Formats: JSONL and CSV (also .gz), Parquet, a saved Hugging Face data set or DatasetDict; and published data sets in
    their own layout: reuters-sgml, topic-text, math-folder, gsm8k, trec (docs/reference/data-formats.md).
    Every row is checked; a mistake is named by file, line and field, and nothing is stored.
    Duplicates, and rows whose input stands in the test set, are left out of the pool and counted.
    The same content again is the same version; another content becomes the newest version.

    \b
    Examples:
      baldistill data import tickets --train tickets.jsonl
      baldistill data import trec --train train.csv --test test.csv \\
          --map input=question,domain=label,answer=label --make-ids
      baldistill data import reviews --train saved_dataset_dict/ --map input=text
      baldistill data import r52 --train reuters21578.tar.gz --format reuters-sgml --reuters r52
    """
    if test is not None and held_out_share is not None:
        raise InvalidInput("nothing is held out where a test file is given", field="held-out-share")
    fields = FieldMap(names=parse_field_map(",".join(maps or ())), make_ids=make_ids)
    share = LARGEST_SHARE if held_out_share is None else _share(held_out_share)
    with Home(home) as opened, ImportProgress() as progress:
        result = import_dataset(
            opened.store,
            tenant=tenant,
            name=name,
            train=train,
            test=test,
            source_format=source_format,
            options=OriginalOptions(name=name, reuters=reuters, skip_empty_answers=skip_empty_answers),
            fields=fields,
            beside=SidePaths(rationales=tuple(rationales or ()), aliases=tuple(aliases or ()), oracle=oracle),
            seed=seed,
            held_out_share=share,
            progress=progress,
        )
    _tell(result, as_json=as_json)


@data_app.command()
def longtail(
    name: NameArgument,
    test_per_domain: Annotated[int, typer.Option("--test-per-domain", help="Test items of every domain.")] = 20,
    head: Annotated[int, typer.Option("--head", help="Pool items of the largest domain.")] = 200,
    tail: Annotated[int, typer.Option("--tail", help="Pool items of the smallest domain.")] = 3,
    min_items: Annotated[int, typer.Option("--min-items", help="Domains with fewer items are left out.")] = 60,
    seed: Annotated[int, typer.Option("--seed", help="Decides which item goes where.")] = 1,
    new_name: Annotated[str | None, typer.Option("--as", metavar="NEWNAME", help="Default: NAME_lt.")] = None,
    home: HomeOption = DEFAULT_HOME,
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Cut a long tail out of a data set: a test set of equal domains, a pool that is a geometric ladder.

    What is cut away is kept as `oracle` items: the `oracle` teacher draws from them what other teachers invent.

    \b
    Example:
      baldistill data longtail trec50 --test-per-domain 20 --head 200 --tail 3 --min-items 60 --seed 1 --as trec_lt
    """
    ladder = Ladder(test_per_domain=test_per_domain, head=head, tail=tail, min_items=min_items, seed=seed)
    with Home(home) as opened:
        source = _find(opened.store, tenant=tenant, name=name, version=None)
        result = store_long_tail(opened.store, source, ladder, name=new_name or f"{name}_lt")
    _tell(result, as_json=as_json)


@data_app.command()
def show(
    name: NameArgument,
    version: Annotated[str | None, typer.Option("--version", help="Default: the one imported last.")] = None,
    every_domain: Annotated[bool, typer.Option("--all", help="Every domain, however many there are.")] = False,
    home: HomeOption = DEFAULT_HOME,
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Draw a data set's long tail: its domains from the largest to the smallest, and what was left out.

    \b
    Examples:
      baldistill data show tickets
      baldistill data show tickets --version 1f3a5c7e9b2d --json
    """
    with Home(home) as opened:
        dataset = _find(opened.store, tenant=tenant, name=name, version=version)
        versions = list_versions(opened.store, tenant=tenant, name=name)
    if as_json:
        print_json(_document(dataset) | {"versions": versions})
    else:
        print_long_tail(dataset, versions=versions, every_domain=every_domain)


@data_app.command("list")
def list_command(
    home: HomeOption = DEFAULT_HOME, tenant: TenantOption = "default", as_json: JsonOption = False
) -> None:
    """List the data sets of a tenant, each with its newest version.

    Example: baldistill data list --json
    """
    with Home(home) as opened:
        known = list_datasets(opened.store, tenant=tenant)
        newest = [_find(opened.store, tenant=tenant, name=name, version=None) for name in known]
    if as_json:
        print_json([_document(dataset) | {"versions": known[dataset.name]} for dataset in newest])
        return
    table = Table("name", "newest version", "versions")
    for heading in ("domains", "pool", "test", "head : tail"):
        table.add_column(heading, justify="right")
    for dataset in newest:
        sizes = (f"{dataset.pool.rows:,}", f"{dataset.test.rows:,}", f"{head_to_tail(dataset):g} : 1")
        versions = str(len(known[dataset.name]))
        table.add_row(dataset.name, dataset.version, versions, f"{len(dataset.domains):,}", *sizes)
    RESULTS.print(table if newest else f"No data sets of tenant {tenant} in {home}: baldistill data import --help")


def _find(store: ArtifactStore, *, tenant: str, name: str, version: str | None) -> Dataset:
    chosen = version or latest_version(store, tenant=tenant, name=name) or "none"
    return load_dataset(store, tenant=tenant, name=name, version=chosen)


def _share(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise InvalidInput(f"'{text}' is not a number", field="held-out-share") from None


def _tell(result: ImportResult, *, as_json: bool) -> None:
    if as_json:
        imported = {
            "created": result.created,
            "became_latest": result.became_latest,
            "removed_now": dict(result.removed),
        }
        print_json(_document(result.dataset) | imported)
    else:
        RESULTS.print(_told(result), markup=False, soft_wrap=True)


def _told(result: ImportResult) -> str:
    dataset = result.dataset
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in result.removed.items() if count) or "nothing"
    if result.created:
        fate = "imported"
    elif result.became_latest:
        fate = "was there already and is now the newest"
    else:
        fate = "was there already; nothing changed"
    return (
        f"Data set {dataset.name}, version {dataset.version}, {fate}.\n"
        f"{dataset.pool.rows:,} rows in the pool, {dataset.test.rows:,} test items, {len(dataset.domains):,} domains;"
        f" left out: {left_out}.\n"
        f"{_beside(dataset)}"
        f"See its long tail: baldistill data show {dataset.name}"
    )


def _beside(dataset: Dataset) -> str:
    """Return a line about what the version holds beside its rows, and one about domains that cannot be learned."""
    files = {"oracle items": dataset.oracle, "rationales": dataset.rationales, "items with aliases": dataset.aliases}
    held = ", ".join(f"{ref.rows:,} {what}" for what, ref in files.items() if ref is not None)
    only_in_test = sorted(name for name, counts in dataset.domains.items() if not counts.pool)
    told = f"Beside them: {held}.\n" if held else ""
    if only_in_test:
        told += f"Domains with test items but no row in the pool: {', '.join(only_in_test[:10])}"
        told += f" and {len(only_in_test) - 10} more.\n" if len(only_in_test) > 10 else ".\n"
    return told


def _document(dataset: Dataset) -> dict[str, Any]:
    """Return a data set as plain JSON values."""
    return {
        "tenant": dataset.tenant,
        "name": dataset.name,
        "version": dataset.version,
        "sha256": dataset.sha256,
        "pool_rows": dataset.pool.rows,
        "test_rows": dataset.test.rows,
        "head_to_tail": head_to_tail(dataset),
        "removed": dict(dataset.removed),
        "oracle_rows": dataset.oracle.rows if dataset.oracle else 0,
        "rationale_rows": dataset.rationales.rows if dataset.rationales else 0,
        "alias_rows": dataset.aliases.rows if dataset.aliases else 0,
        "labels": list(dataset.labels),
        "domains": {
            name: {
                "pool": counts.pool,
                "test": counts.test,
                "longest_input_bytes": counts.longest_input_bytes,
                "longest_answer_bytes": counts.longest_answer_bytes,
            }
            for name, counts in dataset.domains.items()
        },
    }
