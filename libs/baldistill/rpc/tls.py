"""TLS of a server: certificate and key from files that may be replaced while it runs (cert-manager does)."""

from __future__ import annotations

import threading
from pathlib import Path

import grpc
import structlog

from baldistill.errors import InvalidInput
from baldistill.rpc.tls_files import TlsFiles, stamps_of

_log = structlog.get_logger(__name__)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials that follow the files. Raises InvalidInput where they cannot be read now."""
    reader = _FileReader(files)
    return grpc.dynamic_ssl_server_credentials(
        reader.read(),
        reader.changed,  # type: ignore[arg-type]  # the stubs do not know that None means unchanged
        require_client_authentication=files.client_ca is not None,
    )


class _FileReader:
    """Reads the files anew after they changed. Asked at each handshake, by grpc's own threads."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen: tuple[tuple[int, int], ...] = ()
        self._lock = threading.Lock()

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Return what the files hold now. Raises InvalidInput."""
        self._seen = stamps_of(self._files)
        files = self._files
        chain, key = _pem(files.certificate, "CERTIFICATE"), _pem(files.key, "PRIVATE KEY")
        roots = _pem(files.client_ca, "CERTIFICATE") if files.client_ca else None
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what the files hold where they changed since they were read; a bad file changes nothing."""
        with self._lock:
            try:
                return self.read() if stamps_of(self._files) != self._seen else None
            except InvalidInput as error:
                _log.warning("new TLS files are not taken", reason=str(error))
                return None


def _pem(path: Path, kind: str) -> bytes:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"it cannot be read: {error.strerror}", path=path) from error
    if kind.encode() not in text:
        raise InvalidInput(f"it holds no PEM block of a {kind.lower()}", path=path)
    return text
