"""Secrets come from files beside the environment, which goes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from baldistill.environment import load_settings
from baldistill.mounted_secrets import FOLDER_VARIABLE, SecretsUnreadable, variables
from services.teacher_gateway.settings import TeacherGatewaySettings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Secrets as the kubelet mounts them: links into a folder whose name begins with two dots."""
    version = tmp_path / "..2026_11_24"
    version.mkdir()
    (tmp_path / "..data").symlink_to(version)
    for name, text in {
        "BALDISTILL_DATABASE__URL": "postgresql+psycopg://services@db/baldistill\n",
        "BALDISTILL_STORE__SECRET_KEY": "from a file",
        "OPENAI_API_KEY": "sk-1",
    }.items():
        (version / name).write_text(text)
        (tmp_path / name).symlink_to(f"..data/{name}")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_a_section_is_completed_from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALDISTILL_STORE__ACCESS_KEY", "from the environment")
    settings = load_settings(TeacherGatewaySettings)
    assert settings.store.access_key == "from the environment"
    assert settings.store.secret_key.get_secret_value() == "from a file"
    assert settings.database.url.get_secret_value() == "postgresql+psycopg://services@db/baldistill"
    assert settings.keys_in(variables()) == {"OPENAI_API_KEY": "sk-1"}


@pytest.mark.usefixtures("folder")
def test_what_the_environment_says_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALDISTILL_STORE__SECRET_KEY", "from the environment")
    settings = load_settings(TeacherGatewaySettings)
    assert settings.store.secret_key.get_secret_value() == "from the environment"


def test_a_folder_that_is_not_there_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder / "absent"))
    with pytest.raises(SecretsUnreadable, match="absent"):
        load_settings(TeacherGatewaySettings)
