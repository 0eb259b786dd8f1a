"""An https endpoint: only the authority that we were told is trusted."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from baldistill.errors import DependencyUnavailable, InvalidInput
from baldistill.local_stack.minio import make_minio
from baldistill.local_stack.server_process import free_port
from baldistill.testing.minio import store_settings
from tests.integration.artifacts.conftest import OpenStore

FOLDER = "tenants/acme/runs/r1"


def self_signed(folder: Path) -> Path:
    """Make a certificate for the loopback as MinIO wants to find it."""
    folder.mkdir(parents=True)
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-subj", "/CN=minio", "-days", "2"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", str(folder / "private.key"), "-out", str(folder / "public.crt")]
    subprocess.run(["openssl", "req", "-x509", *key, *names, *files], check=True, capture_output=True)
    return folder


def test_an_https_endpoint_is_used_where_its_authority_is_trusted_and_refused_elsewhere(
    tmp_path: Path, open_s3: OpenStore
) -> None:
    certificates = self_signed(tmp_path / "certificates")
    server = make_minio(tmp_path / "minio", port=free_port(), certificates=certificates)
    server.start(dies_with_parent=True)
    try:
        authority = certificates / "public.crt"
        settings = store_settings(server, cache=tmp_path / "cache", ca_file=authority, retry_for_s=1.0)
        assert settings.endpoint.startswith("https://")
        store = open_s3(settings)
        big = store.put_bytes(folder=FOLDER, name="big.bin", data=b"x" * (17 << 20))
        assert store.local_path(big).stat().st_size == 17 << 20
        for changes in ({"ca_file": None}, {"ca_file": self_signed(tmp_path / "others") / "public.crt"}):
            with pytest.raises(DependencyUnavailable, match=r"(?i)certificate"):
                open_s3(settings, **changes).find_manifest(f"{FOLDER}/a.json")
        with pytest.raises(InvalidInput, match=r"store\.ca_file"):
            open_s3(settings, ca_file=tmp_path / "absent.pem")
    finally:
        server.kill()
