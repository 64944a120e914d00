"""What the server's tests stand on: a seal, the process, and a visitor."""

from __future__ import annotations

import datetime as dt
import http.client
import ipaddress
import json
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.parse
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, TypeVar

import websocket
from argon2 import PasswordHasher
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

T = TypeVar("T")

PASSWORD = "correct horse battery"

# The real thing but for the permission to be root, which test machines often are.
LAUNCH = "import sys; from jupbox_server.__main__ import main; sys.exit(main(allow_root=True))"


def until(look: Callable[[], T], *, within: float = 60.0) -> T:
    """Ask again until the answer is true; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {look}")
        time.sleep(0.05)


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A CA of the test's own."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A leaf with its chain, and its key, PEM."""

    chain: bytes
    key: bytes
    serial: int


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )


def authority() -> Authority:
    """A fresh CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder("test CA", "test CA", key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate=certificate, key=key)


def pair(ca: Authority) -> Pair:
    """A fresh leaf for this machine's loopback."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        _builder("leaf", "test CA", key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca.key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Pair(
        chain=leaf.public_bytes(pem) + ca.certificate.public_bytes(pem),
        key=key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        serial=leaf.serial_number,
    )


def hash_of(password: str) -> str:
    """A hash in Jupyter's format, cheap to check."""
    return "argon2:" + PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(password)


@dataclass(frozen=True, kw_only=True)
class Seal:
    """A seal directory."""

    folder: Path
    ca: Authority

    def create(self) -> None:
        """Fill it."""
        self.folder.mkdir()
        self.write_password(PASSWORD)
        self.write_pair(pair(self.ca))
        seal = {"generation": 3, "id": "test", "names": ["workbox", "*.lab.example", "192.0.2.7"]}
        (self.folder / "seal.json").write_text(json.dumps(seal))

    def write(self, name: str, content: bytes) -> None:
        """Rewrite a file in place, as the volume's writer does."""
        path = self.folder / name
        if path.exists():
            path.chmod(0o600)
        path.write_bytes(content)
        path.chmod(0o400)

    def write_password(self, password: str) -> None:
        """Seal another password."""
        self.write("password.hash", hash_of(password).encode() + b"\n")

    def write_pair(self, new: Pair) -> None:
        """Seal another pair."""
        self.write("cert.pem", new.chain)
        self.write("key.pem", new.key)

    def trust(self) -> ssl.SSLContext:
        """A client's context that trusts the CA and checks names."""
        pem = self.ca.certificate.public_bytes(serialization.Encoding.PEM).decode()
        return ssl.create_default_context(cadata=pem)


@dataclass(kw_only=True)
class RunningServer:
    """The process, and what a test asks it from outside."""

    folder: Path
    home: Path
    seal: Seal
    port: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def control(self) -> Path:
        """The control socket."""
        return self.folder / "run" / "control.sock"

    @property
    def log(self) -> str:
        """All that the server has written."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it answers."""
        places = ["--seal", str(self.seal.folder), "--control", str(self.control)]
        network = ["--ip", "127.0.0.1", "--port", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", LAUNCH, *places, *network],
                env=self.environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._up, within=60)

    def _up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        return self.run("health", "--seal", str(self.seal.folder), "--port", str(self.port)).ok

    def stop(self) -> None:
        """End it and its kernels."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def run(self, module: str, *arguments: str) -> Answer:
        """`python -m jupbox_server.<module>`, as `docker exec` would."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", f"jupbox_server.{module}", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return Answer(status=done.returncode, text=done.stdout, errors=done.stderr)

    def ask(self, *arguments: str) -> Any:
        """What the control client prints, as JSON."""
        answer = self.run("control", "--socket", str(self.control), *arguments)
        assert answer.ok, answer
        return json.loads(answer.text) if answer.text.strip() else None

    def served_serial(self) -> int:
        """The serial number of the certificate that a new connection gets."""
        pem = ssl.get_server_certificate(("127.0.0.1", self.port), timeout=5)
        return x509.load_pem_x509_certificate(pem.encode()).serial_number


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A process's or a server's answer."""

    status: int
    text: str
    errors: str = ""
    headers: http.client.HTTPMessage = field(default_factory=http.client.HTTPMessage)

    @property
    def ok(self) -> bool:
        """Whether a process ended well."""
        return self.status == 0

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.text)


@dataclass(kw_only=True)
class Browser:
    """A visitor with cookies, at an address of the loopback network."""

    server: RunningServer
    address: str
    host: str = ""
    cookies: dict[str, str] = field(default_factory=dict)
    set_cookies: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.host = self.host or f"localhost:{self.server.port}"

    def _headers(self) -> dict[str, str]:
        headers = {"Host": self.host}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if "_xsrf" in self.cookies:
            headers["X-XSRFToken"] = self.cookies["_xsrf"]
        return headers

    def request(
        self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own; no redirect is followed."""
        connection = http.client.HTTPSConnection(
            "localhost",
            self.server.port,
            timeout=20,
            context=self.server.seal.trust(),
            source_address=(self.address, 0),
        )
        try:
            connection.request(method, path, body, self._headers() | (headers or {}))
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        finally:
            connection.close()
        for line in response.headers.get_all("Set-Cookie") or []:
            self.set_cookies.append(line)
            for name, morsel in SimpleCookie(line).items():
                if morsel.value:
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)
        return Answer(status=response.status, text=text, headers=response.headers)

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """GET."""
        return self.request("GET", path, headers=headers)

    def log_in(self, password: str) -> Answer:
        """Fill in the login form."""
        self.get("/login")
        form = urllib.parse.urlencode({"password": password, "_xsrf": self.cookies["_xsrf"]})
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.request("POST", "/login", form, kind)

    def log_in_by_control(self) -> None:
        """Come in by a control login."""
        self.get("/login")  # for the XSRF cookie that the API wants
        assert self.get(self.server.ask("login")["path"]).status == 302

    def may_enter(self) -> bool:
        """Whether the API answers."""
        status = self.get("/api/kernels").status
        assert status in {200, 403}
        return status == 200

    def start_kernel(self) -> str:
        """A new kernel's id."""
        answer = self.request("POST", "/api/kernels", "{}")
        assert answer.status == 201, answer
        return str(answer.json["id"])

    def open_kernel(self, kernel: str) -> websocket.WebSocket:
        """The kernel's websocket."""
        headers = self._headers()
        return websocket.create_connection(
            f"wss://localhost:{self.server.port}/api/kernels/{kernel}/channels",
            timeout=20,
            sslopt={"context": self.server.seal.trust()},
            host=headers["Host"],
            cookie=headers["Cookie"],
            suppress_origin=True,
        )


def send_code(socket: websocket.WebSocket, code: str) -> str:
    """Have a kernel run `code`; the request's id."""
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "",
        "session": uuid.uuid4().hex,
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
    socket.send(json.dumps(message | {"channel": "shell", "buffers": []}))
    return header["msg_id"]


def value_of(socket: websocket.WebSocket, code: str) -> str:
    """What a kernel says that an expression is."""
    sent = send_code(socket, code)
    result = ""
    while True:
        message = json.loads(socket.recv())
        if message["parent_header"].get("msg_id") != sent:
            continue
        if message["msg_type"] == "execute_result":
            result = message["content"]["data"]["text/plain"]
        if message["msg_type"] == "execute_reply":
            assert message["content"]["status"] == "ok", message
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return result


def login_cookie(browser: Browser) -> str:
    """The whole Set-Cookie line of the visitor's last login."""
    return [line for line in browser.set_cookies if re.match(r"username-", line)][-1]
