"""The cable between a laptop and a box: counts what goes up; can be cut, swallow all, be slow."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_BLOCK = 1 << 16


class Cable:
    """A TCP port of 127.0.0.1 that leads to another.

    Attributes:
        port: where it begins.
        sent: bytes that went up since it was laid.
        cut_at: at that many bytes all connections end; later ones stand again.
        delay: seconds that each block takes more, in each direction.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.sent = 0
        self.cut_at: int | None = None
        self.delay = 0.0
        self._light = threading.Event()
        self._light.set()
        self._broken = False
        self._forgotten: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                if self._broken:
                    # refused as far as a listener can: reset before a word
                    near.close()
                    continue
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
                self._wait_on_the_way()
                if {source, target} & self._forgotten:
                    continue
                target.sendall(block)
        if not self._light.is_set():
            return  # neither does the end of a connection get through
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _wait_on_the_way(self) -> None:
        if self.delay:
            time.sleep(self.delay)
        self._light.wait()

    @contextmanager
    def swallowing(self) -> Iterator[None]:
        """Nothing gets through, and nobody is told; what is on the way then arrives late.

        A connection that one side gives up meanwhile stays open for the other one.
        """
        self._light.clear()
        try:
            yield
        finally:
            self._light.set()

    @contextmanager
    def broken(self) -> Iterator[None]:
        """All connections end, and no other comes about."""
        self._broken = True
        self.cut()
        try:
            yield
        finally:
            self._broken = False

    def forget(self) -> None:
        """Nothing gets through the connections of now any more, as in another network."""
        with self._lock:
            self._forgotten |= self._open

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
        self._light.set()
        self.cut()


@contextmanager
def laid(to: int) -> Iterator[Cable]:
    """A cable to a port of 127.0.0.1."""
    cable = Cable(to)
    try:
        yield cable
    finally:
        cable.close()
