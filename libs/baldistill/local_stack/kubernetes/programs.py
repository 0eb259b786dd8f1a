"""Programs of Kubernetes, built once from the pinned source through the Go module proxy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

from baldistill.local_stack.installing import cache_folder, one_at_a_time, run_persistently, tell
from baldistill.local_stack.server_process import ServerFailed, ServerMissing

PROGRAMS = ("kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler")

_VERSIONS = Path(__file__).parent.parent / "versions.toml"
_SOURCE = Path(__file__).parent / "source"
# A cold build of the API server takes 5 min of one core. One that is given up is begun again from what it had compiled.
_BUILD_TIMEOUT_S = 900.0
# Older ones have another kustomize inside (5.0), which knows less.
_OLDEST_KUBECTL = (1, 30)


def kubernetes_version() -> str:
    """Return the pinned version, e.g. `v1.34.4`."""
    pinned: dict[str, str] = tomllib.loads(_VERSIONS.read_text())["kubernetes"]
    return pinned["version"]


def kubernetes_program(name: str) -> Path:
    """Return one of PROGRAMS, built at the first call. Raises ServerMissing, ServerFailed.

    It lies in `~/.cache/baldistill/kubernetes/<version>` (BALDISTILL_CACHE instead of `~/.cache/baldistill`).
    """
    cache = cache_folder()
    binary = cache / "kubernetes" / kubernetes_version() / name
    if binary.is_file():
        return binary
    binary.parent.mkdir(parents=True, exist_ok=True)
    # One builds, the others wait and find it.
    with one_at_a_time(binary.parent / ".lock", what=name):
        if not binary.is_file():
            _build(name, binary)
    return binary


def any_kubectl() -> Path:
    """Return a kubectl that is new enough to render: the one on the PATH, else the pinned one. Raises as above."""
    found = shutil.which("kubectl")
    return Path(found) if found is not None and _version_of(found) >= _OLDEST_KUBECTL else kubernetes_program("kubectl")


def _version_of(kubectl: str) -> tuple[int, int]:
    asked = subprocess.run(  # noqa: S603  (what the PATH names)
        [kubectl, "version", "--client", "--output=json"], capture_output=True, check=False, timeout=60
    )
    try:
        version = json.loads(asked.stdout)["clientVersion"]
        return int(version["major"]), int(version["minor"].rstrip("+"))
    except (ValueError, KeyError):
        return (0, 0)


def _build(name: str, binary: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise ServerMissing(f"{name} is built from source and needs Go: install it, or put the binary at {binary}")
    version = kubernetes_version()
    tell(f"Building {name} {version}; this takes some minutes, once.")
    major, minor, _ = version.removeprefix("v").split(".")
    about = "k8s.io/component-base/version"
    flags = f"-s -w -X {about}.gitVersion={version} -X {about}.gitMajor={major} -X {about}.gitMinor={minor}"
    log = binary.parent / f"{name}.build.log"
    with tempfile.TemporaryDirectory(prefix=".build-", dir=binary.parent) as folder, log.open("wb") as output:
        try:
            ended = run_persistently(
                [go, "install", "-trimpath", "-ldflags", flags, f"./cmd/{name}"],
                what=name,
                timeout_s=_BUILD_TIMEOUT_S,
                cwd=_SOURCE,
                env=os.environ | {"GOBIN": folder, "CGO_ENABLED": "0"},
                stdout=output,
                stderr=output,
            )
        except subprocess.TimeoutExpired:
            raise ServerFailed(name="go install", reason="did not end in time", log=log) from None
        if ended.returncode != 0:
            raise ServerFailed(name="go install", reason=f"ended with {ended.returncode}", log=log)
        (Path(folder) / name).replace(binary)
