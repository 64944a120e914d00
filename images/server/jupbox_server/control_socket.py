"""The owner's way in: a unix socket whose requests need no login.

Who may open the socket is the server's own user, inside the container: whoever may use the
engine, and the kernels, which are the owner's already. A request is the owner's by the
connection object that it came in on; nothing that a client sends has a part in it.
"""

from __future__ import annotations

import os
from pathlib import Path
from weakref import WeakSet

from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    HTTPServerRequest,
)
from tornado.netutil import bind_unix_socket


class OwnerConnections:
    """The connections that came in on the control socket and are still in use."""

    def __init__(self) -> None:
        self._open: WeakSet[HTTPConnection] = WeakSet()

    def add(self, connection: HTTPConnection) -> None:
        """Note a connection as the owner's."""
        self._open.add(connection)

    def own(self, request: HTTPServerRequest) -> bool:
        """Whether `request` came in on the control socket."""
        return request.connection in self._open


class _OwnersDoor(HTTPServerConnectionDelegate):
    """Hands every request on to the application, noting where it came in."""

    def __init__(self, application: HTTPServerConnectionDelegate, owners: OwnerConnections) -> None:
        self._application = application
        self._owners = owners

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        self._owners.add(request_conn)
        return self._application.start_request(server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        self._application.on_close(server_conn)


def open_control_socket(
    path: Path, application: HTTPServerConnectionDelegate, owners: OwnerConnections
) -> HTTPServer:
    """Serve `application` at `path`, mode 0600, as the owner.

    Raises:
        OSError: the directory is not ours, or something else than a socket is there.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The mode is right from the first moment, not only after bind_unix_socket's chmod.
    mask = os.umask(0o177)
    try:
        socket = bind_unix_socket(str(path), mode=0o600)
    except ValueError as error:
        raise OSError(str(error)) from None
    finally:
        os.umask(mask)
    server = HTTPServer(_OwnersDoor(application, owners))
    server.add_socket(socket)
    return server
