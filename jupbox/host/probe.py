"""Asking a notebook server over HTTPS whether it answers, with its certificate verified."""

from __future__ import annotations

import http.client
import math
import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

from jupbox.errors import CertificateError, JupboxError, ServerError

_POLL_SECONDS: Final = 0.1
# a look takes processor time, which the server needs for its start
_LOOK_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 3.0
_LOGS: Final = "Look at `jupbox logs`."


def https_probe(
    *,
    address: tuple[str, int],
    server_name: str,
    ca_pem: bytes,
    path: str = "/api",
    timeout: float = 3.0,
) -> int:
    """Send one GET over verified TLS and return the HTTP status; redirects are not followed.

    Args:
        address: where to connect, host and port.
        server_name: whom the certificate must name, a host name or an address.
        ca_pem: the certificates to trust, none else: the box's authority, or the very
            certificate that the server must show.
        path: what to ask for.
        timeout: seconds without an answer, at each step.

    Raises:
        CertificateError: the server's certificate does not verify, or `ca_pem` holds none.
        ServerError: nothing listens, or what listens does not speak HTTPS.
    """
    context = _context(ca_pem)
    host, port = address
    place = f"{host} port {port}"
    try:
        with (
            socket.create_connection(address, timeout=timeout) as plain,
            context.wrap_socket(plain, server_hostname=server_name) as secured,
        ):
            return _status(secured, server_name=server_name, port=port, path=path)
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(
            f"The certificate at {place} does not verify for {server_name}: "
            f"{error.verify_message}.",
            remedy="Run `jupbox up` to renew it, and check both machines' clocks.",
        ) from error
    except TimeoutError as error:
        raise ServerError(f"No answer from {place} in {timeout:g} s.", remedy=_LOGS) from error
    except ssl.SSLError as error:
        raise ServerError(
            f"What listens at {place} does not speak TLS ({error.reason}).", remedy=_LOGS
        ) from error
    except http.client.HTTPException as error:
        raise ServerError(
            f"What listens at {place} does not speak HTTP ({type(error).__name__}).", remedy=_LOGS
        ) from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise ServerError(f"No connection to {place}: {reason}.", remedy=_LOGS) from error


def wait_https(
    *,
    address: tuple[str, int],
    server_name: str,
    ca_pem: bytes,
    deadline_seconds: float,
    alive: Callable[[], None] | None = None,
    path: str = "/api",
) -> None:
    """Wait until a server answers 200 over verified TLS.

    Args:
        address: where to connect, host and port.
        server_name: whom the certificate must name.
        ca_pem: the certificates to trust.
        deadline_seconds: how long to wait at most; one question is always asked.
        alive: called before the first question and then each second; what it raises ends the
            waiting, for a container that has exited.
        path: what to ask for.

    Raises:
        CertificateError: the certificate still does not verify at the deadline (before it, the
            release that is being replaced may be the one that answers).
        ServerError: there is still no answer, or another one than 200.
    """
    deadline = time.monotonic() + deadline_seconds
    looked = -math.inf
    while True:
        if alive is not None and time.monotonic() - looked >= _LOOK_SECONDS:
            alive()
            looked = time.monotonic()
        left = deadline - time.monotonic()
        failure = _failure(
            address=address,
            server_name=server_name,
            ca_pem=ca_pem,
            path=path,
            # A last question at the deadline still gets the time that a handshake takes.
            timeout=min(_PROBE_SECONDS, max(left, _POLL_SECONDS)),
        )
        if failure is None:
            return
        if time.monotonic() + _POLL_SECONDS > deadline:
            raise failure
        time.sleep(_POLL_SECONDS)


def _failure(
    *, address: tuple[str, int], server_name: str, ca_pem: bytes, path: str, timeout: float
) -> JupboxError | None:
    """Ask once; return what is wrong, None if nothing is."""
    try:
        status = https_probe(
            address=address, server_name=server_name, ca_pem=ca_pem, path=path, timeout=timeout
        )
    except (CertificateError, ServerError) as error:
        return error
    if status == http.HTTPStatus.OK:
        return None
    return ServerError(
        f"The server at {address[0]} port {address[1]} answers {path} with HTTP {status}.",
        remedy=_LOGS,
    )


def _context(ca_pem: bytes) -> ssl.SSLContext:
    # Not create_default_context: its strictness changes with Python's version (3.13).
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A user's own certificate may itself be what is trusted, with no root at hand.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
        raise CertificateError(
            "The certificate to verify the server with cannot be read.",
            remedy="Run `jupbox up`, which makes a new one if needed.",
        ) from error
    return context


def _status(secured: ssl.SSLSocket, *, server_name: str, port: int, path: str) -> int:
    connection = http.client.HTTPConnection(server_name, port)
    connection.sock = secured
    connection.request("GET", path, headers={"Connection": "close", "User-Agent": "jupbox"})
    return connection.getresponse().status
