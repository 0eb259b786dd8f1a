"""TLS of the HTTP face: its files are followed while it runs, as those of gRPC are."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from baldistill.errors import InvalidInput
from baldistill.rpc.tls_files import TlsFiles
from baldistill.testing.certificates import Authority
from services.teacher_gateway.servers.openai.face import HttpFace, Routes


class Greeting:
    """Answers every request alike."""

    async def answer(self, _request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="hello")

    def begin_drain(self) -> None: ...

    async def finish(self, *, grace_s: float) -> None: ...


@asynccontextmanager
async def greeting() -> AsyncIterator[Routes]:
    yield Greeting()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "first")


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> TlsFiles:
    certificate, key = authority.issue("server")
    return TlsFiles(
        certificate=certificate.rename(tmp_path / "tls.crt"), key=key.rename(tmp_path / "tls.key"), client_ca=None
    )


def serving(files: TlsFiles) -> HttpFace:
    face = HttpFace(greeting, listen="127.0.0.1:0", tls=files)
    face.start()
    return face


@pytest.fixture
def face(files: TlsFiles) -> Iterator[HttpFace]:
    one = serving(files)
    yield one
    one.stop(grace_s=0)


def ask(face: HttpFace, *, ca: Path, host: str = "localhost", client: tuple[Path, Path] | None = None) -> str:
    context = ssl.create_default_context(cafile=str(ca))
    if client is not None:
        context.load_cert_chain(*client)
    connection = http.client.HTTPSConnection(host, int(face.address.rpartition(":")[2]), context=context, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


# Who connects to an address names no server.
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_replaced_certificate_is_served_without_a_restart(
    face: HttpFace, authority: Authority, files: TlsFiles, tmp_path: Path, host: str
) -> None:
    assert ask(face, ca=authority.certificate, host=host) == "hello"
    second = Authority(tmp_path, "second")
    certificate, key = second.issue("server")
    key.replace(files.key)
    certificate.replace(files.certificate)
    assert ask(face, ca=second.certificate, host=host) == "hello"
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(face, ca=authority.certificate, host=host)


def test_a_bad_replacement_leaves_the_old_certificate_in_place(
    face: HttpFace, authority: Authority, files: TlsFiles
) -> None:
    files.certificate.write_text("not a certificate")
    assert ask(face, ca=authority.certificate) == "hello"
    files.certificate.unlink()
    assert ask(face, ca=authority.certificate) == "hello"


def test_callers_need_a_certificate_of_the_newest_client_ca(
    files: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    old, new = Authority(tmp_path, "old-clients"), Authority(tmp_path, "new-clients")
    roots = tmp_path / "clients.pem"
    roots.write_bytes(old.certificate.read_bytes())
    face = serving(TlsFiles(certificate=files.certificate, key=files.key, client_ca=roots))
    try:
        laptop, desk = old.issue("laptop"), new.issue("desk")
        assert ask(face, ca=authority.certificate, client=laptop) == "hello"
        new.certificate.rename(roots)
        assert ask(face, ca=authority.certificate, client=desk) == "hello"
        for refused in (laptop, None):
            # How a refusal reaches the client depends on how far it has written by then.
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
                ask(face, ca=authority.certificate, client=refused)
    finally:
        face.stop(grace_s=0)


def test_missing_files_are_named_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"absent\.crt: it cannot be read: No such file"):
        serving(TlsFiles(certificate=tmp_path / "absent.crt", key=tmp_path / "absent.key"))
