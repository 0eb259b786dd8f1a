"""The embedded mode's folder: artifacts, database, locks. One place that knows its layout."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import sqlalchemy as sa
import typer

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactStore
from baldistill.artifacts.scratch import storage_full
from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import migrate
from baldistill.errors import InvalidInput

HomeOption = Annotated[
    Path,
    typer.Option(
        "--home", envvar="BALDISTILL_HOME", help="Folder of artifacts, ledger and locks.", show_default="./.baldistill"
    ),
]
DEFAULT_HOME = Path(".baldistill")
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
TenantOption = Annotated[str, typer.Option("--tenant", help="Who owns the run or data set.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeLayout:
    """Where things are in the folder."""

    root: Path

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def database(self) -> Path:
        return self.root / "state.db"

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def prices(self) -> Path:
        """A person's own prices (docs/reference/budgets.md); need not be there."""
        return self.root / "prices.yaml"

    @property
    def logs(self) -> Path:
        return self.root / "logs"


class Home(AbstractContextManager["Home"]):
    """The opened folder. Close it, or use it in a `with` block."""

    def __init__(self, root: Path) -> None:
        """Open or create it. Raises InvalidInput where the path cannot be a folder, StorageFull."""
        self.layout = HomeLayout(root=root)
        self._exit = ExitStack()
        self._create()
        self.store: ArtifactStore = LocalArtifactStore(self.layout.artifacts)
        self.engine: sa.Engine = open_database(sqlite_url(self.layout.database))
        self._exit.callback(self.engine.dispose)
        migrate(self.engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _create(self) -> None:
        root = self.layout.root
        try:
            with storage_full(root):
                for folder in (self.layout.artifacts, self.layout.locks, self.layout.logs):
                    folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InvalidInput(
                "it, or a part of it, is a file and no folder; choose another --home", path=root
            ) from None
        except OSError as error:
            raise InvalidInput(f"cannot be written: {error.strerror}", path=root) from error
