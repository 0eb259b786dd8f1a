"""A proxy before PostgreSQL that breaks connections exactly at COMMIT: before, while or after the server applied it."""

from __future__ import annotations

import contextlib
import enum
import select
import socket
import threading
from types import TracebackType
from typing import Self

_CHUNK = 65536
# A simple query of the wire protocol; psycopg commits by one. Source: "Message Formats" of PostgreSQL's manual.
_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"


class Cut(enum.Enum):
    """Where a connection breaks."""

    BEFORE = "before"  # the server never hears of the commit, and rolls back
    MEANWHILE = "meanwhile"  # the server commits while the client has gone already
    AFTER = "after"  # the server committed and said so; the client never hears it


class CuttingProxy:
    """Forwards a port of the loopback. `cut_next` breaks the next commits. Thread-safe."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._cuts: list[Cut] = []
        self._done = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def cuts_done(self) -> int:
        """How many commits were broken."""
        return self._done

    def cut_next(self, *cuts: Cut) -> None:
        """Break the next commits so, in this order."""
        with self._lock:
            self._cuts += cuts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing alone does not wake a thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self._target_port)) as server,
        ):
            while True:
                readable, _, _ = select.select([client, server], [], [])
                for source in readable:
                    if not (data := source.recv(_CHUNK)):
                        return None
                    cut = self._next_cut() if source is client and _COMMIT in data else None
                    if cut is not None:
                        return _break(cut, server=server, commit=data)
                    (server if source is client else client).sendall(data)

    def _next_cut(self) -> Cut | None:
        with self._lock:
            if not self._cuts:
                return None
            self._done += 1
            return self._cuts.pop(0)


def _break(cut: Cut, *, server: socket.socket, commit: bytes) -> None:
    if cut is not Cut.BEFORE:
        server.sendall(commit)
    if cut is Cut.AFTER:
        # The server says that it committed; nobody passes it on.
        server.recv(_CHUNK)
