from __future__ import annotations

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jupbox.errors import CertificateError, NotRunningError, ServerError
from jupbox.host import probe
from jupbox.host.probe import https_probe, wait_https
from jupbox.pki import Authority, Leaf, Names, issue_leaf, make_authority

NOW = datetime.now(UTC)
NAMES = Names.of(["workbox.example"])


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /api with 200, /moved with a redirect, /busy with 503; keeps what it was asked."""

    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Host"]))
        status = {"/api": 200, "/moved": 302, "/busy": 503}.get(self.path, 404)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/api")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """A real HTTPS server on an ephemeral port of the loopback, quiet about failed handshakes."""

    daemon_threads = True

    def __init__(self, leaf: Leaf, directory: Path) -> None:
        self.asked: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", 0), type("Recording", (Handler,), {"asked": self.asked}))
        chain = directory / f"{id(self)}.pem"
        chain.write_bytes(leaf.certificate_pem + leaf.key_pem.reveal().encode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def place(self) -> tuple[str, int]:
        return "127.0.0.1", self.server_port


@contextmanager
def serving(leaf: Leaf, directory: Path) -> Iterator[Server]:
    with Server(leaf, directory) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def speaking(answer: bytes | None) -> Iterator[tuple[str, int]]:
    """A plain server that says one thing to each who connects, or nothing if None."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                accepted.append(connection)
                if answer is not None:
                    connection.recv(4096)
                    connection.sendall(answer)
                    connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in accepted:
                connection.close()


@pytest.fixture
def closed() -> tuple[str, int]:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place: tuple[str, int] = listener.getsockname()
    return place


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority(box="b", names=NAMES, now=NOW)


@pytest.fixture
def server(authority: Authority, tmp_path: Path) -> Iterator[Server]:
    with serving(issue_leaf(authority=authority, names=NAMES, now=NOW), tmp_path) as running:
        yield running


@pytest.mark.parametrize("name", ["workbox.example", "localhost", "127.0.0.1", "::1"])
def test_answers_with_the_status_for_each_name(
    server: Server, authority: Authority, name: str
) -> None:
    status = https_probe(address=server.place, server_name=name, ca_pem=authority.certificate_pem)
    assert status == 200
    host = f"[{name}]" if ":" in name else name
    assert server.asked == [("/api", f"{host}:{server.server_port}")]


@pytest.mark.parametrize(("path", "expected"), [("/moved", 302), ("/busy", 503), ("/none", 404)])
def test_status_is_the_servers_own(
    server: Server, authority: Authority, path: str, expected: int
) -> None:
    status = https_probe(
        address=server.place,
        server_name="localhost",
        ca_pem=authority.certificate_pem,
        path=path,
    )
    assert status == expected


def test_trusts_the_very_certificate_without_its_issuer(
    authority: Authority, tmp_path: Path
) -> None:
    leaf = issue_leaf(authority=authority, names=NAMES, now=NOW)
    with serving(leaf, tmp_path) as running:
        status = https_probe(
            address=running.place, server_name="localhost", ca_pem=leaf.certificate_pem
        )
    assert status == 200


def test_refuses_a_certificate_for_another_name(server: Server, authority: Authority) -> None:
    with pytest.raises(CertificateError, match=r"for other\.example: Hostname mismatch"):
        https_probe(
            address=server.place, server_name="other.example", ca_pem=authority.certificate_pem
        )
    assert server.asked == []


def test_refuses_a_certificate_of_another_authority(server: Server) -> None:
    other = make_authority(box="b", names=NAMES, now=NOW)
    with pytest.raises(CertificateError, match="local issuer"):
        https_probe(address=server.place, server_name="localhost", ca_pem=other.certificate_pem)
    assert server.asked == []


def test_refuses_an_expired_certificate(tmp_path: Path) -> None:
    then = NOW - timedelta(days=400)
    old = make_authority(box="b", names=NAMES, now=then)
    with (
        serving(issue_leaf(authority=old, names=NAMES, now=then), tmp_path) as running,
        pytest.raises(CertificateError, match="expired"),
    ):
        https_probe(address=running.place, server_name="localhost", ca_pem=old.certificate_pem)


@pytest.mark.parametrize("pem", [b"", b"no pem", b"\xff"])
def test_a_broken_authority_is_an_error_of_ours(closed: tuple[str, int], pem: bytes) -> None:
    with pytest.raises(CertificateError, match="cannot be read"):
        https_probe(address=closed, server_name="localhost", ca_pem=pem)


def test_says_when_nothing_listens(closed: tuple[str, int], authority: Authority) -> None:
    with pytest.raises(ServerError, match="Connection refused"):
        https_probe(address=closed, server_name="localhost", ca_pem=authority.certificate_pem)


def test_says_when_the_host_does_not_resolve(authority: Authority) -> None:
    with pytest.raises(ServerError, match=r"No connection to nowhere\.invalid"):
        https_probe(
            address=("nowhere.invalid", 1),
            server_name="localhost",
            ca_pem=authority.certificate_pem,
        )


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_says_when_what_listens_speaks_no_tls(authority: Authority, answer: bytes) -> None:
    with speaking(answer) as place, pytest.raises(ServerError):
        https_probe(address=place, server_name="localhost", ca_pem=authority.certificate_pem)


def test_gives_up_on_a_server_that_says_nothing(authority: Authority) -> None:
    with speaking(None) as place, pytest.raises(ServerError, match=r"No answer .* in 0\.2 s"):
        https_probe(
            address=place,
            server_name="localhost",
            ca_pem=authority.certificate_pem,
            timeout=0.2,
        )


def test_waits_until_the_server_answers(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_LOOK_SECONDS", 0.0)
    leaf = issue_leaf(authority=authority, names=NAMES, now=NOW)
    asked = 0
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        place: tuple[str, int] = placeholder.getsockname()

    class Late(Server):
        def server_bind(self) -> None:
            self.server_address = place
            super().server_bind()

    started: list[tuple[Server, threading.Thread]] = []

    def start_at_the_third_question() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            late = Late(leaf, tmp_path)
            thread = threading.Thread(target=late.serve_forever, args=(0.01,))
            thread.start()
            started.append((late, thread))

    try:
        wait_https(
            address=place,
            server_name="localhost",
            ca_pem=authority.certificate_pem,
            deadline_seconds=30,
            alive=start_at_the_third_question,
        )
    finally:
        for late, thread in started:
            late.shutdown()
            thread.join()
            late.server_close()
    assert asked == 3


def test_waiting_ends_when_the_container_has_exited(
    closed: tuple[str, int], authority: Authority
) -> None:
    def exited() -> None:
        raise NotRunningError("The container exited.", remedy="Look at its log.")

    with pytest.raises(NotRunningError):
        wait_https(
            address=closed,
            server_name="localhost",
            ca_pem=authority.certificate_pem,
            deadline_seconds=60,
            alive=exited,
        )


def test_waiting_ends_at_its_deadline_with_the_last_reason(
    closed: tuple[str, int], authority: Authority
) -> None:
    began = time.monotonic()
    with pytest.raises(ServerError, match="Connection refused"):
        wait_https(
            address=closed,
            server_name="localhost",
            ca_pem=authority.certificate_pem,
            deadline_seconds=0.5,
        )
    assert time.monotonic() - began < 5


def test_waiting_is_not_content_with_another_status_than_200(
    server: Server, authority: Authority
) -> None:
    with pytest.raises(ServerError, match="HTTP 503"):
        wait_https(
            address=server.place,
            server_name="localhost",
            ca_pem=authority.certificate_pem,
            deadline_seconds=0,
            path="/busy",
        )


def test_waiting_reports_a_certificate_that_never_verifies(server: Server) -> None:
    other = make_authority(box="b", names=NAMES, now=NOW)
    with pytest.raises(CertificateError):
        wait_https(
            address=server.place,
            server_name="localhost",
            ca_pem=other.certificate_pem,
            deadline_seconds=0.3,
        )
