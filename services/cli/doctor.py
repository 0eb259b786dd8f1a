"""`baldistill doctor`: is everything here that a run needs? Says what to do where it is not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from baldistill.errors import BalDistillError
from baldistill.pricing.book import PriceBook
from baldistill.runtime.file_locks import FileLock
from baldistill.specs.loading import blaming_spec, load_runspec
from services.cli.home import DEFAULT_HOME, Home, HomeOption, JsonOption
from services.cli.output import EXIT_FAILED, RESULTS, print_json

# A demo run writes about 100 MiB; the demo student's weights take 270 MiB once.
_ENOUGH_FREE_BYTES = 2 * 1024**3
_OLDEST_SQLITE = (3, 35)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check. remedy: what to do where it is not fine."""

    name: str
    fine: bool
    found: str
    remedy: str = ""


def doctor(
    spec: Annotated[
        Path | None, typer.Argument(metavar="[SPEC]", help="Also check this spec's model and teacher.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Check this machine, and with SPEC its base model and whether its teacher answers. Spends nothing."""
    findings = [_finding(name, check) for name, check in _checks(home, spec)]
    if as_json:
        print_json([{"check": f.name, "fine": f.fine, "found": f.found, "remedy": f.remedy} for f in findings])
    else:
        table = Table("", "check", "found", "what to do", box=None)
        for finding in findings:
            table.add_row("ok" if finding.fine else "!!", finding.name, finding.found, finding.remedy)
        RESULTS.print(table)
    if not all(finding.fine for finding in findings):
        raise typer.Exit(EXIT_FAILED)


def _checks(home: Path, spec: Path | None) -> Iterator[tuple[str, Callable[[], Finding]]]:
    yield "python", _python
    yield "sqlite", _sqlite
    yield "packages", _packages
    yield "compute", _compute
    yield "home", lambda: _home(home)
    yield "disk", lambda: _disk(home)
    if spec is not None:
        yield "spec", lambda: _spec(spec)
        yield "base model", lambda: _base_model(spec)
        yield "teacher", lambda: _teacher(spec, home)


def _finding(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except BalDistillError as error:
        return Finding(name=name, fine=False, found=str(error), remedy="see the message")


def _python() -> Finding:
    return Finding(name="python", fine=sys.version_info >= (3, 11), found=platform.python_version(), remedy="")


def _sqlite() -> Finding:
    return Finding(
        name="sqlite",
        fine=sqlite3.sqlite_version_info >= _OLDEST_SQLITE,
        found=sqlite3.sqlite_version,
        remedy="" if sqlite3.sqlite_version_info >= _OLDEST_SQLITE else "use a Python with SQLite 3.35 or newer",
    )


def _packages() -> Finding:
    wanted = ("torch", "transformers", "peft", "openai", "pyarrow", "sqlalchemy")
    versions = {}
    for name in wanted:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "missing"
    missing = [name for name, version in versions.items() if version == "missing"]
    return Finding(
        name="packages",
        fine=not missing,
        found=", ".join(f"{name} {version}" for name, version in versions.items()),
        remedy="make setup" if missing else "",
    )


def _compute() -> Finding:
    import torch

    from baldistill.student.precision import resolve_dtype

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return Finding(name="compute", fine=True, found=f"{device}, dtype auto = {resolve_dtype('auto').value}")


def _home(home: Path) -> Finding:
    with Home(home) as opened, FileLock(opened.layout.locks / "doctor.lock") as lock:
        works = lock.try_acquire()
    return Finding(
        name="home",
        fine=works,
        found=f"{home.resolve()}: database and locks work" if works else "another doctor holds the lock",
        remedy="" if works else "run it again",
    )


def _disk(home: Path) -> Finding:
    free = shutil.disk_usage(home).free
    fine = free >= _ENOUGH_FREE_BYTES
    return Finding(
        name="disk",
        fine=fine,
        found=f"{free / 1024**3:.1f} GiB free",
        remedy="" if fine else "free some, or choose another --home",
    )


def _spec(path: Path) -> Finding:
    spec = load_runspec(path)
    return Finding(name="spec", fine=True, found=f"{path} is valid: run {spec.name}")


def _base_model(path: Path) -> Finding:
    from services.policy.adapters.local_base_models import LocalBaseModels

    with blaming_spec(path):
        base = LocalBaseModels().describe(load_runspec(path).student.base)
    return Finding(name="base model", fine=True, found=f"{base.name}, weights {base.weights_sha256[:12]}")


def _teacher(path: Path, home: Path) -> Finding:
    from services.teacher_gateway.composition import build_teacher_gateway

    spec = load_runspec(path)
    with Home(home) as opened:
        gateway = build_teacher_gateway(store=opened.store, engine=opened.engine, locks=opened.layout.locks)
        try:
            with blaming_spec(path):
                gateway.preflight(PriceBook.at(opened.layout.prices).priced(spec.teacher))
        finally:
            gateway.close()
    return Finding(
        name="teacher", fine=True, found=f"{spec.teacher.model} at {spec.teacher.base_url or spec.teacher.kind}"
    )
