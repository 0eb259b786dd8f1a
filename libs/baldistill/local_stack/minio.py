"""MinIO on the loopback: any S3 server would do, this one is built from its pinned source (DESIGN 6, local stack)."""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from baldistill.local_stack.installing import cache_folder, one_at_a_time, run_persistently, tell
from baldistill.local_stack.server_process import ServerFailed, ServerMissing, ServerProcess

_VERSIONS = Path(__file__).with_name("versions.toml")
# A cold build takes 5.5 min on 2 cores (issue 5). One that is given up is begun again from what it had compiled.
_BUILD_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MinioServer:
    """A MinIO server: its process, its address, and the keys of its root user."""

    process: ServerProcess
    endpoint: str
    access_key: str
    secret_key: str

    def start(self, *, timeout_s: float = 60.0, dies_with_parent: bool = False) -> None:
        """Start it where it does not run, and wait until it takes writes. Raises ServerFailed."""
        self.process.start(timeout_s=timeout_s, dies_with_parent=dies_with_parent)

    def stop(self) -> None:
        """End it politely. Idempotent; its folder keeps the data."""
        self.process.stop()

    def kill(self) -> None:
        """End it by SIGKILL. Idempotent; its folder keeps the data."""
        self.process.kill()


def make_minio(
    folder: Path,
    *,
    port: int,
    access_key: str = "baldistill",
    secret_key: str = "baldistill-local",  # noqa: S107  (loopback only)
    certificates: Path | None = None,
) -> MinioServer:
    """Describe a server with its data under `folder`; `start` starts it. Raises ServerMissing, ServerFailed.

    certificates: a folder with `public.crt` and `private.key`; with it the endpoint is https.
    """
    folder = folder.resolve()
    command = [
        str(minio_binary()), "server", str(folder / "data"), "--address", f"127.0.0.1:{port}",
        "--console-address", "127.0.0.1:0", "--quiet",
        "--certs-dir", str((certificates or folder / "no-certificates").resolve()),
    ]  # fmt: skip
    process = ServerProcess(
        name="minio",
        folder=folder,
        command=command,
        is_ready=lambda: _serves(port, secure=certificates is not None),
        environment={
            "MINIO_ROOT_USER": access_key,
            "MINIO_ROOT_PASSWORD": secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        },
    )
    scheme = "http" if certificates is None else "https"
    return MinioServer(
        process=process, endpoint=f"{scheme}://127.0.0.1:{port}", access_key=access_key, secret_key=secret_key
    )


def minio_binary() -> Path:
    """Return the pinned server's binary, built at the first call. Raises ServerMissing, ServerFailed.

    It lies in `~/.cache/baldistill/minio/<version>` (BALDISTILL_CACHE instead of `~/.cache/baldistill`).
    """
    pinned: dict[str, str] = tomllib.loads(_VERSIONS.read_text())["minio"]
    binary = cache_folder() / "minio" / pinned["version"] / "minio"
    if binary.is_file():
        return binary
    binary.parent.mkdir(parents=True, exist_ok=True)
    # One builds, the others wait and find it.
    with one_at_a_time(binary.parent / ".lock", what="MinIO"):
        if not binary.is_file():
            _build(f"{pinned['module']}@{pinned['version']}", binary)
    return binary


def _build(module: str, binary: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise ServerMissing(f"MinIO is built from source and needs Go: install it, or put the binary at {binary}")
    tell(f"Building MinIO ({module}); this takes some minutes, once.")
    with tempfile.TemporaryDirectory(prefix=".build-", dir=binary.parent) as folder:
        log = binary.parent / "build.log"
        with log.open("wb") as output:
            try:
                ended = run_persistently(
                    [go, "install", module],
                    what="MinIO",
                    timeout_s=_BUILD_TIMEOUT_S,
                    env=os.environ | {"GOBIN": folder, "CGO_ENABLED": "0"},
                    stdout=output,
                    stderr=output,
                )
            except subprocess.TimeoutExpired:
                raise ServerFailed(name="go install", reason="did not end in time", log=log) from None
        if ended.returncode != 0:
            raise ServerFailed(name="go install", reason=f"ended with {ended.returncode}", log=log)
        (Path(folder) / "minio").replace(binary)


def _serves(port: int, *, secure: bool) -> bool:
    """Ask the health endpoint whether writes are taken."""
    connection = (
        # Health only: whose certificate it is matters to those who send data.
        http.client.HTTPSConnection("127.0.0.1", port, timeout=2.0, context=ssl._create_unverified_context())  # noqa: S323, SLF001
        if secure
        else http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    )
    try:
        connection.request("GET", "/minio/health/cluster")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
