"""Settings from files beside the environment: a folder of secrets holds one file per variable, named like it.

Secrets in files are seen by who may read the folder, not by every child process and every crash report. The folder is
named by BALDISTILL_SECRETS_FOLDER; what the environment itself says goes first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from baldistill.errors import BalDistillError

FOLDER_VARIABLE = "BALDISTILL_SECRETS_FOLDER"


class SecretsUnreadable(BalDistillError):
    """The folder of secrets, or a file in it, cannot be read."""

    exit_code = 78  # EX_CONFIG

    def __init__(self, *, path: Path, reason: str) -> None:
        super().__init__(f"{FOLDER_VARIABLE}: {path} cannot be read: {reason}")
        self.path = path


def variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment's variables and those of mounted files. Raises SecretsUnreadable.

    A file's last line end is no part of its value: editors and `echo` leave one.
    """
    own = dict(os.environ if environment is None else environment)
    return {**_mounted(own.get(FOLDER_VARIABLE, "")), **own}


def _mounted(folder: str) -> dict[str, str]:
    if not folder:
        return {}
    try:
        # Kubernetes keeps the versions of a mounted secret in folders whose names begin with two dots.
        files = sorted(path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise SecretsUnreadable(path=Path(folder), reason=str(error)) from None
    return {path.name: _text_of(path) for path in files}


def _text_of(path: Path) -> str:
    try:
        return path.read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SecretsUnreadable(path=path, reason=str(error)) from None


class _FromFilesToo(EnvSettingsSource):
    """The environment as settings know it, completed by the mounted files."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        known = {name.lower(): value for name, value in variables().items()}
        return {name: value for name, value in known.items() if value or not self.env_ignore_empty}


class MountedSettings(BaseSettings):
    """Settings from the environment and from mounted secrets. Names differ by case alone nowhere."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (replaced)
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (none of ours)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (knows no nesting)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _FromFilesToo(settings_cls)
