"""What goes wrong around a run is said in one line with its exit code, damages nothing, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from baldistill.testing.processes import Ended, TeacherProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.conftest import Answer, CommandLine, RunHome

FREE = {"input_usd_per_million_tokens": 0, "output_usd_per_million_tokens": 0}
CALLS = 16
SLOW = {"teacher": {"protocol": {"latency_s": 0.3}, "concurrency": 1}}


def must_say(ended: Ended | Answer, *, code: int, words: str) -> None:
    """Claim that a command ended with this code and one line about it."""
    assert ended.code == code, ended.err
    said = [line for line in ended.err.splitlines() if not line.startswith(("Report: ", "Imported data set "))]
    assert len(said) == 1, ended.err
    assert words in said[0]
    assert "Traceback" not in ended.out
    assert '"event"' not in ended.out


def must_complete(baldistill: CommandLine) -> None:
    """Claim that the same command again, here in the test's own process, takes the run to its end."""
    answer = baldistill("run", baldistill.spec_path, "--quiet")
    assert (answer.code, "error" in answer.err) == (0, False), answer.err
    assert baldistill.separately.account().stored == CALLS


@pytest.fixture
def small_disk(baldistill: CommandLine) -> Iterator[Callable[[int], None]]:
    """Mounts a file system of so many KiB as the home, or resizes it; a visible skip where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("no small disk to fill: only root may mount one")
    baldistill.home.mkdir()

    def resize(kib: int) -> None:
        options = f"{'remount,' if baldistill.home.is_mount() else ''}size={kib}k"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(baldistill.home)]
        mount = subprocess.run(command, check=False, capture_output=True, text=True)
        if mount.returncode:
            pytest.skip(f"no small disk to fill: {mount.stderr.strip()}")

    yield resize
    if baldistill.home.is_mount():
        subprocess.run(["umount", "--lazy", str(baldistill.home)], check=True)


def fill_up(folder: Path) -> None:
    """Take all the space that is left."""
    filler = folder / "filler"
    filler.touch()
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(shutil.disk_usage(folder).free + (1 << 20)))


@pytest.mark.parametrize("filled_at", ["the start", "stage-01/plan.json", "stage-01/batch.json"])
def test_a_full_disk_is_said_and_more_space_lets_the_run_complete(
    filled_at: str, small_disk: Callable[[int], None], baldistill: CommandLine
) -> None:
    # An answer that cannot be stored any more stays UNKNOWN: there must be room to ask for it again.
    baldistill.write_spec(**SLOW, budget={"calls": 2 * CALLS})
    home = baldistill.separately
    # The database alone takes some 150 KiB.
    small_disk(160 if filled_at == "the start" else 10_000)
    with home.start("--patience", "1") as process:
        if filled_at != "the start":
            process.wait_until(lambda: filled_at in home.manifests())
            fill_up(home.root)
        must_say(process.wait(), code=74, words="no space left on the device")
    home.must_be_whole()
    small_disk(20_000)
    must_complete(baldistill)


@pytest.fixture(scope="module")
def half_done(tmp_path_factory: pytest.TempPathFactory, make_run_home: Callable[..., RunHome]) -> RunHome:
    """A run that was killed while it trained its first student."""
    home = make_run_home(tmp_path_factory.mktemp("half-done"))
    with home.start() as process:
        process.wait_until(lambda: "stage-01/batch.json" in home.manifests())
        process.kill()
    return home


@pytest.mark.parametrize(
    "damaged", ["selection-*.parquet", "batch-*.parquet", "pool-*.parquet", "stage-01/batch.json", "spec-*.json"]
)
def test_a_corrupt_artifact_is_named_and_its_bytes_restored_let_the_run_complete(
    damaged: str, half_done: RunHome, baldistill: CommandLine
) -> None:
    shutil.copytree(half_done.root, baldistill.home)
    shutil.copy(half_done.spec_path, baldistill.spec_path)
    home = baldistill.separately
    before = home.files()
    (path,) = home.layout.artifacts.rglob(damaged)
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])

    answer = baldistill("run", baldistill.spec_path, "--quiet")
    must_say(answer, code=answer.code if answer.code == 4 else 65, words="is corrupt")
    assert path.name in answer.err
    path.write_bytes(whole)
    after = home.files()
    assert {name: after.get(name) for name in before} == before
    must_complete(baldistill)


def test_a_second_process_on_the_same_run_is_refused_and_told_who_works(baldistill: CommandLine) -> None:
    baldistill.write_spec(**SLOW)
    home = baldistill.separately
    with home.start() as first:
        first.wait_until(lambda: "stage-01/plan.json" in home.manifests())
        must_say(home.run(), code=75, words=f"process {first.pid};")
        assert first.wait().code == 0
    assert home.account().stored == CALLS


def test_ctrl_c_leaves_a_run_that_the_same_command_goes_on_with(baldistill: CommandLine) -> None:
    baldistill.write_spec(**SLOW)
    home = baldistill.separately
    with home.start() as process:
        process.wait_until(lambda: "stage-01/selection.json" in home.manifests())
        process.interrupt()
        must_say(process.wait(), code=130, words="run the same command again to go on")
    must_complete(baldistill)
    # A polite stop waits for the answers that are under way.
    assert home.account().unknown == 0


def test_a_teacher_that_goes_away_ends_the_command_and_is_not_paid_twice_when_it_is_back(
    tmp_path: Path, baldistill: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-real-key")
    with TeacherProcess(tmp_path / "teacher", behaviour={"latency_s": 0.3}) as teacher:
        spec: dict[str, Any] = {"kind": "openai", "base_url": teacher.url, "price": FREE, "concurrency": 2}
        baldistill.write_spec(budget={"calls": CALLS + 8}, teacher=spec)
        home = baldistill.separately
        with home.start("--patience", "2") as process:
            process.wait_until(lambda: len(teacher.seen()) >= 4)
            teacher.stop()
            must_say(process.wait(), code=69, words=f"teacher {teacher.url} is not reachable")
        still_away = baldistill("run", baldistill.spec_path, "--quiet")
        must_say(still_away, code=69, words="is not reachable")
        teacher.start()
        must_complete(baldistill)
        home.account().must_explain(teacher.seen())
        # What happened meanwhile is in the log, not on the terminal.
        assert "consumption pauses" in {event["event"] for event in home.logged()}
