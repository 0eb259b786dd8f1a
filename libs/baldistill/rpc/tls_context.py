"""TLS of a server that asyncio runs: certificate and key from files that may be replaced while it runs."""

from __future__ import annotations

import ssl

import structlog

from baldistill.errors import InvalidInput
from baldistill.rpc.tls_files import TlsFiles, stamps_of

_log = structlog.get_logger(__name__)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context that follows the files. Raises InvalidInput where they cannot be used now."""
    return _FollowingContexts(files).first


class _FollowingContexts:
    """Gives each handshake the newest context. For one event loop."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = stamps_of(files)
        self.first = self._newest = _read(files)
        # Asked at each handshake, before a certificate is shown, with or without a name in it.
        self.first.sni_callback = self._choose

    def _choose(self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        try:
            if (stamps := stamps_of(self._files)) != self._seen:
                self._newest, self._seen = _read(self._files), stamps
        # A bad file changes nothing.
        except InvalidInput as error:
            _log.warning("new TLS files are not taken", reason=str(error))
        handshake.context = self._newest


def _read(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.key)
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"cannot be used for TLS: {error}", path=files.certificate) from error
    return context
