"""A private Python index with a password, and an HTTP proxy with one: both real, both small."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import select
import socket
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


def make_wheel(name: str, version: str, code: str) -> tuple[str, bytes]:
    """A wheel of one module: its file name and content."""
    module = name.replace("-", "_")
    about = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": code,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{about}/RECORD"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        for path, text in {**files, f"{about}/RECORD": record}.items():
            wheel.writestr(zipfile.ZipInfo(path), text)  # always the same bytes
    return f"{module}-{version}-py3-none-any.whl", buffer.getvalue()


@dataclass(frozen=True, kw_only=True)
class Service:
    """Where one of them listens, and what it was asked for by somebody who knew the password."""

    address: str
    port: int
    user: str
    password: str
    seen: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its URL, password and all."""
        return f"http://{self.user}:{self.password}@{self.address}:{self.port}"

    @property
    def _expected(self) -> str:
        word = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return f"Basic {word}"

    def admits(self, header: str | None) -> bool:
        """Whether an Authorization header is right."""
        return header == self._expected


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, service: Service, *arguments: object) -> None:
        self.service = service
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Index(_Handler):
    def __init__(self, wheel: tuple[str, bytes], service: Service, *arguments: object) -> None:
        self.name, self.content = wheel
        super().__init__(service, *arguments)

    def do_GET(self) -> None:
        if not self.service.admits(self.headers["Authorization"]):
            self.answer(401, WWW_Authenticate='Basic realm="packages"')
            return
        self.service.seen.append(self.path)
        project = self.name.split("-")[0].replace("_", "-")
        if self.path == f"/files/{self.name}":
            self.answer(200, self.content, Content_Type="application/zip")
        elif self.path == f"/simple/{project}/":
            digest = hashlib.sha256(self.content).hexdigest()
            link = f'<a href="/files/{self.name}#sha256={digest}">{self.name}</a>'
            page = f"<!doctype html><html><body>{link}</body></html>"
            self.answer(200, page.encode(), Content_Type="text/html")
        else:
            self.answer(404)

    do_HEAD = do_GET  # noqa: N815 - http.server's name


class _Proxy(_Handler):
    def do_CONNECT(self) -> None:
        if not self._admitted(self.path):
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=60) as there:
            self.send_response(200)
            self.end_headers()
            _pass_on(self.connection, there)
        self.close_connection = True

    def do_GET(self) -> None:
        if not self._admitted(self.path):
            return
        wanted = urlsplit(self.path)
        assert wanted.hostname
        there = http.client.HTTPConnection(wanted.hostname, wanted.port or 80, timeout=60)
        headers = {k: v for k, v in self.headers.items() if not k.lower().startswith("proxy-")}
        headers["Connection"] = "close"
        try:
            there.request(self.command, f"{wanted.path}?{wanted.query}".rstrip("?"), None, headers)
            response = there.getresponse()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in {"connection", "transfer-encoding", "keep-alive"}:
                    self.send_header(name, value)
            self.end_headers()
            while block := response.read(1 << 16):
                self.wfile.write(block)
        finally:
            there.close()

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _admitted(self, what: str) -> bool:
        if self.service.admits(self.headers["Proxy-Authorization"]):
            self.service.seen.append(what)
            return True
        self.answer(407, Proxy_Authenticate='Basic realm="proxy"')
        return False


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    """Hand on what either side says until one of them is done."""
    while True:
        for ready in select.select([one, other], [], [], 120)[0]:
            block = ready.recv(1 << 16)
            if not block:
                return
            (other if ready is one else one).sendall(block)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


@contextmanager
def _serving(handler: object, address: str, user: str, password: str) -> Iterator[Service]:
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = int(probe.getsockname()[1])
    service = Service(address=address, port=port, user=user, password=password)
    with _Server((address, port), partial(handler, service)) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield service
        finally:
            with suppress(OSError):
                server.shutdown()
            thread.join()


@contextmanager
def private_index(
    wheel: tuple[str, bytes], *, address: str, user: str, password: str
) -> Iterator[Service]:
    """A Python index that has one wheel, for those who know the password."""
    with _serving(partial(_Index, wheel), address, user, password) as service:
        yield service


@contextmanager
def proxy(*, address: str, user: str, password: str) -> Iterator[Service]:
    """A forwarding HTTP proxy for those who know the password."""
    with _serving(_Proxy, address, user, password) as service:
        yield service
