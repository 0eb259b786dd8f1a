"""Kafka's jars from the Maven registry, kept in a cache folder: there is no distribution package of the broker."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

from baldistill.local_stack.installing import cache_folder, one_at_a_time, run_persistently, tell
from baldistill.local_stack.server_process import ServerMissing

_VERSIONS = Path(__file__).with_name("versions.toml")
_INSTALL_S = 600.0

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>{dependencies}</dependencies>
</project>
"""


def kafka_jars() -> Path:
    """Return the folder of the pinned version's jars; fetched where they are absent, by one process at a time.

    Raises: ServerMissing where Java or Maven is absent, or the registry cannot be reached.
    """
    pinned = tomllib.loads(_VERSIONS.read_text())["kafka"]
    folder = cache_folder() / "kafka" / str(pinned["version"])
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder.parent / "lock", what="Kafka"):
            if not folder.is_dir():
                _fetch([f"{pinned['artifact']}:{pinned['version']}", str(pinned["logging"])], into=folder)
    return folder


def java() -> str:
    """Return the Java command. Raises ServerMissing."""
    found = shutil.which("java")
    if found is None:
        raise ServerMissing("Kafka needs Java 17; install it: apt-get install openjdk-17-jre-headless")
    return found


def _fetch(artifacts: list[str], *, into: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerMissing("Kafka's jars come by Maven; install it: apt-get install maven")
    tell(f"Fetching Kafka ({artifacts[0]}) by Maven, once.")
    with tempfile.TemporaryDirectory(dir=into.parent) as work:
        (Path(work) / "pom.xml").write_text(_POM.format(dependencies="".join(map(_dependency, artifacts))))
        fetched = Path(work) / "jars"
        try:
            done = run_persistently(
                [maven, "-B", "-q", "dependency:copy-dependencies", f"-DoutputDirectory={fetched}"],
                what="Kafka",
                timeout_s=_INSTALL_S,
                cwd=work,
                capture_output=True,
            )
        except subprocess.TimeoutExpired:
            raise ServerMissing(f"Maven did not fetch {artifacts[0]} within {_INSTALL_S:.0f} s; try again") from None
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip().splitlines()
            raise ServerMissing(f"Maven could not fetch {artifacts[0]}: {said[0] if said else 'it said nothing'}")
        # In one step: a folder that is there is whole.
        fetched.rename(into)


def _dependency(artifact: str) -> str:
    group, name, version = artifact.split(":")
    return f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
