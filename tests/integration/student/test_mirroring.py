"""A base model goes into the store once, and comes out on a machine that lacks it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactStore
from baldistill.errors import AlreadyThere, InvalidInput
from baldistill.specs.frozen import FrozenBaseModel
from baldistill.student.base_models import resolve_base_model, weights_sha256
from baldistill.student.loading import load_student
from baldistill.student.mirroring import mirror_base_model, take_mirrored
from baldistill.student.precision import StudentDtype
from baldistill.student.trained import open_base
from baldistill.testing.artifact_stores import STORE_KINDS, new_location, open_store
from baldistill.testing.teacher_runs import frozen_run
from baldistill.testing.tiny_student import build_tiny_student
from services.cli.__main__ import run
from services.policy.adapters.local_base_models import LocalBaseModels

NAME = "acme/tiny"


@pytest.fixture(params=STORE_KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return open_store(kind=request.param, location=new_location(kind=request.param, folder=tmp_path))


@pytest.fixture(autouse=True)
def other_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models that are taken from the store lie in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "models"))
    return tmp_path / "models"


def test_a_mirrored_model_comes_out_as_it_went_in(store: ArtifactStore, tiny_base: Path, other_machine: Path) -> None:
    base = resolve_base_model(str(tiny_base))
    mirror_base_model(store, base, name=NAME)
    with ThreadPoolExecutor(4) as pool:
        taken = set(pool.map(lambda _: take_mirrored(store, NAME), range(4)))
    (model,) = taken
    assert model is not None
    assert (model.name, model.weights_sha256) == (NAME, base.weights_sha256)
    assert other_machine in model.folder.parents
    assert {path.name: path.read_bytes() for path in model.folder.iterdir()} == {
        path.name: path.read_bytes() for path in tiny_base.iterdir()
    }
    assert load_student(model, dtype=StudentDtype.FLOAT32).context_tokens == 2048


def test_pickled_weights_and_code_are_not_mirrored(store: ArtifactStore, tmp_path: Path) -> None:
    folder = build_tiny_student(tmp_path / "tiny")
    for name in ("pytorch_model.bin", "modeling_evil.py"):
        (folder / name).write_bytes(b"x")
    manifest = mirror_base_model(store, resolve_base_model(str(folder)), name=NAME)
    assert not {"pytorch_model.bin", "modeling_evil.py"} & set(manifest.files)


def test_a_name_stands_for_one_model_only(store: ArtifactStore, tiny_base: Path, tmp_path: Path) -> None:
    base = resolve_base_model(str(tiny_base))
    assert mirror_base_model(store, base, name=NAME) == mirror_base_model(store, base, name=NAME)
    other = resolve_base_model(str(build_tiny_student(tmp_path / "other", seed=2)))
    with pytest.raises(AlreadyThere, match="its weights are"):
        mirror_base_model(store, other, name=NAME)


def test_a_run_finds_its_base_model_in_the_store(store: ArtifactStore, tiny_base: Path) -> None:
    base = resolve_base_model(str(tiny_base))
    mirror_base_model(store, base, name=NAME)
    described = LocalBaseModels(store).describe(NAME)
    assert described == FrozenBaseModel(name=NAME, weights_sha256=base.weights_sha256)
    frozen = frozen_run().model_copy(update={"base_model": described})
    assert open_base(frozen, store).weights_sha256 == base.weights_sha256


def test_a_model_that_is_neither_here_nor_mirrored_is_refused(store: ArtifactStore) -> None:
    with pytest.raises(InvalidInput, match="unknown model 'nobody/nothing'"):
        LocalBaseModels(store).describe("nobody/nothing")
    missing = FrozenBaseModel(name="nobody/nothing", weights_sha256="0" * 64)
    with pytest.raises(InvalidInput, match="unknown model 'nobody/nothing'"):
        open_base(frozen_run().model_copy(update={"base_model": missing}), store)


def test_the_command_mirrors_a_folder_under_the_name_that_it_is_given(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    refused = run(["models", "mirror", str(tiny_base), "--home", str(home)])
    assert (refused, "--as" in capsys.readouterr().err) == (65, True)
    assert run(["models", "mirror", str(tiny_base), "--as", NAME, "--home", str(home)]) == 0
    store = LocalArtifactStore(home / "artifacts")
    assert LocalBaseModels(store).describe(NAME).weights_sha256 == weights_sha256(tiny_base)
    assert run(["models", "mirror", "nobody/nothing", "--home", str(home)]) == 65


def test_a_mirror_with_other_weights_than_the_run_was_frozen_with_is_not_taken(
    store: ArtifactStore, tiny_base: Path
) -> None:
    mirror_base_model(store, resolve_base_model(str(tiny_base)), name=NAME)
    frozen = frozen_run().model_copy(update={"base_model": FrozenBaseModel(name=NAME, weights_sha256="0" * 64)})
    with pytest.raises(InvalidInput, match="unknown model"):
        open_base(frozen, store)
