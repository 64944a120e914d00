"""The cable between a laptop and a box: counts what goes up through it, and can be cut."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_BLOCK = 1 << 16


class Cable:
    """A TCP port of 127.0.0.1 that leads to another.

    Attributes:
        port: where it begins.
        sent: bytes that went up since it was laid.
        cut_at: at that many bytes all connections end; later ones stand again.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.sent = 0
        self.cut_at: int | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                with self._lock:
                    self._open |= {near, far}
                for ends, up in (((near, far), True), ((far, near), False)):
                    threading.Thread(target=self._pass, args=(*ends, up), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while block := source.recv(_BLOCK):
                if up:
                    with self._lock:
                        self.sent += len(block)
                        cut = self.cut_at is not None and self.sent >= self.cut_at
                    if cut:
                        self.cut_at = None
                        self.cut()
                        return
                target.sendall(block)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End all connections."""
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        """Take it away."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


@contextmanager
def laid(to: int) -> Iterator[Cable]:
    """A cable to a port of 127.0.0.1."""
    cable = Cable(to)
    try:
        yield cable
    finally:
        cable.close()
