"""The jupbox command as a user runs it, and how tests look at what it left on a box."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from jupbox import labels as label
from tests.integration.boxes.boxes import (
    BoxUnderTest,
    Keyring,
    end_ssh_masters,
    wait_until,
    write_laptop,
)
from tests.triggers import saw

_PASSWORD = re.compile(r"^ *Password +(\S+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Standard output of a command with --json."""
        return json.loads(self.stdout)

    @property
    def password(self) -> str | None:
        """The password that `up` showed."""
        match = _PASSWORD.search(self.stdout)
        return match[1] if match else None


@dataclass(frozen=True, kw_only=True)
class Laptop:
    """A user's machine: the environment and the folder in which they run jupbox."""

    environ: Mapping[str, str]
    folder: Path

    def jupbox(self, *arguments: str, input: str = "", timeout: float = 840) -> Answer:
        """Run jupbox to its end, whatever its exit code."""
        return self.run(sys.executable, "-m", "jupbox", *arguments, input=input, timeout=timeout)

    def must(self, *arguments: str, input: str = "") -> Answer:
        """Run jupbox, which must succeed and show no traceback."""
        done = self.jupbox(*arguments, input=input)
        assert done.code == 0, f"jupbox {' '.join(arguments)}: {done.code}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def run(self, *argv: str, input: str = "", timeout: float = 120) -> Answer:
        """Run any program here."""
        done = subprocess.run(
            argv, check=False, env=dict(self.environ), cwd=self.folder, input=input,
            capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        saw(argv, done.returncode)
        return Answer(code=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def at(self, folder: Path, **environ: str) -> Laptop:
        """The same laptop in another folder, with more in its environment."""
        return replace(self, folder=folder, environ={**self.environ, **environ})

    @property
    def runtime(self) -> Path:
        """Where its sockets lie."""
        return Path(self.environ["XDG_RUNTIME_DIR"])

    def end_connections(self) -> None:
        """End the ssh connections that its commands keep for the next."""
        end_ssh_masters(self.runtime)


@contextmanager
def new_laptop(folder: Path, keyring: Keyring) -> Iterator[Laptop]:
    """A laptop with an empty HOME, in a folder with no project."""
    # short: the path of a unix socket has room for some 100 characters
    with tempfile.TemporaryDirectory(prefix="jb-") as runtime:
        environ = write_laptop(folder / "laptop", Path(runtime), keyring)
        (folder / "nothing").mkdir()
        yield Laptop(environ=environ, folder=folder / "nothing")
        end_ssh_masters(Path(runtime))


@dataclass(frozen=True, kw_only=True)
class StackOnBox:
    """What jupbox runs on a box under one name, looked at with the box's own docker."""

    box: BoxUnderTest
    name: str
    user: str = "1500:1500"

    def docker(self, *arguments: str, input: str = "") -> str:
        """What docker says on the box."""
        return self.box.exec("docker", *arguments, input=input, timeout=300)

    def inspect(self) -> dict[str, Any]:
        """The stack's only container with a notebook."""
        server = f"label={label.KIND}=server"
        found = self._listed("ps", "--all", "--no-trunc", "--format", "{{.ID}}", "--filter", server)
        assert len(found) == 1, f"{self.name} has {len(found)} containers"
        return dict(json.loads(self.docker("inspect", found[0]))[0])

    def identity(self) -> tuple[str, str]:
        """Container ID and start time: another pair after any restart."""
        container = self.inspect()
        return str(container["Id"]), str(container["State"]["StartedAt"])

    def images(self) -> list[str]:
        """Tags of the stack's own images."""
        return self._listed("image", "ls", "--format", "{{.Repository}}:{{.Tag}}")

    def volumes(self) -> list[str]:
        """Names of its volumes."""
        return self._listed("volume", "ls", "--format", "{{.Name}}")

    def _listed(self, *command: str) -> list[str]:
        return self.docker(*command, "--filter", f"label={label.STACK}={self.name}").split()

    def exec(self, *argv: str, input: str = "") -> str:
        """What a command, run in the container as the notebook's user, printed."""
        container = str(self.inspect()["Id"])
        return self.docker("exec", "-i", "--user", self.user, container, *argv, input=input)

    def python(self, code: str) -> str:
        """What the environment's Python printed."""
        return self.exec("/opt/env/bin/python", "-", input=code)

    def control(self, *words: str) -> Any:
        """An answer over the control socket."""
        said = self.exec("/opt/env/bin/python", "-P", "-m", "jupbox_server.control", *words)
        return json.loads(said) if said.strip() else None

    def start_kernel(self, name: str = "python3") -> str:
        """A new kernel's id, once it is ready."""
        body = json.dumps({"name": name})
        kernel = str(self.control("POST", "/api/kernels", "--body", body)["id"])
        self.run_in_kernel(kernel, "1")  # Python and R alike
        return kernel

    def run_in_kernel(self, kernel: str, code: str) -> str:
        """What code printed that a running kernel executed; it must succeed."""
        return self.python(
            "from jupyter_client import BlockingKernelClient, find_connection_file\n"
            f"client = BlockingKernelClient(connection_file=find_connection_file({kernel!r}))\n"
            "client.load_connection_file()\n"
            "client.hb_channel.time_to_dead = 60\n"  # R's heart begins to beat late
            "client.start_channels(); client.wait_for_ready(timeout=60)\n"
            f"reply = client.execute_interactive({code!r}, timeout=60)\n"
            "assert reply['content']['status'] == 'ok', reply\n"
        )

    def end_kernel(self, kernel: str) -> None:
        """End a kernel."""
        self.control("DELETE", f"/api/kernels/{kernel}")

    def remove(self) -> None:
        """Take the stack off the box: containers, images of its own, volumes, network."""
        for kind, names in (
            (("rm", "--force", "--volumes"), self._listed("ps", "--all", "--format", "{{.ID}}")),
            (("image", "rm", "--force"), self.images()),
            (("volume", "rm"), self.volumes()),
        ):
            if names:
                self.docker(*kind, *names)
        self.box.succeeds("docker", "network", "rm", f"{self.name}_default")


@dataclass(kw_only=True)
class Visitor:
    """Somebody's browser: verified HTTPS to a port, with cookies.

    Attributes:
        server_name: what the certificate must be for.
    """

    address: str
    port: int
    ca_pem: str
    server_name: str = "localhost"
    cookies: dict[str, str] = field(default_factory=dict)

    def request(self, method: str, path: str, body: str | None = None) -> int:
        """One request; the status. No redirect is followed."""
        headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection(self.server_name, self.port, timeout=30)
        connection.sock = self._connect()
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
        for line in response.headers.get_all("Set-Cookie") or []:
            self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
        return response.status

    def log_in(self, password: str) -> bool:
        """Fill in the login form; whether the API answers afterwards."""
        self.cookies.clear()
        self.request("GET", "/login")
        form = {"password": password, "_xsrf": self.cookies["_xsrf"]}
        self.request("POST", "/login", urllib.parse.urlencode(form))
        return self.request("GET", "/api/kernels") == 200

    def certificate(self) -> x509.Certificate:
        """The certificate that the server shows."""
        with self._connect() as connection:
            der = connection.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)

    def fingerprint(self) -> str:
        """That certificate's SHA-256 as browsers show it: `AB:CD:…`."""
        return self.certificate().fingerprint(hashes.SHA256()).hex(":").upper()

    def _connect(self) -> ssl.SSLSocket:
        trust = ssl.create_default_context(cadata=self.ca_pem)
        plain = socket.create_connection((self.address, self.port), timeout=30)
        return trust.wrap_socket(plain, server_hostname=self.server_name)


@contextmanager
def visiting(laptop: Laptop, box: str, port: int, ca_pem: str) -> Iterator[Visitor]:
    """A visitor who comes through an ssh tunnel of their own."""
    here = _free_port()
    command = ["ssh", "-N", "-o", "ExitOnForwardFailure=yes",
               "-L", f"127.0.0.1:{here}:127.0.0.1:{port}", box]  # fmt: skip
    tunnel = subprocess.Popen(command, env=dict(laptop.environ), stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: _listens(here), f"tunnel to {box}", timeout=30)
        yield Visitor(address="127.0.0.1", port=here, ca_pem=ca_pem)
    finally:
        tunnel.terminate()
        tunnel.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- one cold `up` a box ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MainJob:
    """What `jupbox up BOX` made, from a laptop with no project.

    Attributes:
        logins: how many ssh logins that first `up` took.
        prepared: what ran before it.
    """

    laptop: Laptop
    stack: StackOnBox
    first: Answer
    logins: int
    prepared: Answer | None = None

    @property
    def box(self) -> BoxUnderTest:
        """The box that it runs on."""
        return self.stack.box

    @property
    def lock(self) -> Path:
        """The lock of a laptop with no project."""
        return Path(self.laptop.environ["XDG_DATA_HOME"], "jupbox", f"{self.box.name}.lock")

    @cached_property
    def ca_pem(self) -> str:
        """The box's CA certificate as `trust --print` writes it."""
        return self.laptop.must("trust", self.box.name, "--print").stdout

    def jupbox(self, verb: str, *arguments: str, input: str = "") -> Answer:
        """Run a verb on the box, which must succeed."""
        return self.laptop.must(verb, self.box.name, *arguments, input=input)

    def status(self) -> Any:
        """What `status --json` says."""
        return self.jupbox("status", "--json").json

    @contextmanager
    def visitor(self) -> Iterator[Visitor]:
        """A visitor of the running server."""
        port = int(self.inspect_port())
        with visiting(self.laptop, self.box.name, port, self.ca_pem) as visitor:
            yield visitor

    def inspect_port(self) -> str:
        """The host's port in the container's own words."""
        bindings = self.stack.inspect()["HostConfig"]["PortBindings"]
        return str(bindings["8888/tcp"][0]["HostPort"])

    def ensure_running(self) -> None:
        """Whatever an earlier test did, the server runs."""
        if not self.stack.inspect()["State"]["Running"]:
            self.jupbox("up")


_JOBS: dict[str, MainJob] = {}


def main_job(
    box: BoxUnderTest,
    keyring: Keyring,
    config: pytest.Config,
    *,
    prepare: Callable[[Laptop], Answer | None] = lambda laptop: None,
) -> MainJob:
    """The main job on a box: done cold at the first call of a process, and kept."""
    if box.name not in _JOBS:
        keep = ExitStack()
        config.add_cleanup(keep.close)
        folder = Path(tempfile.mkdtemp(prefix="jupboxtest-"))
        keep.callback(shutil.rmtree, folder, ignore_errors=True)
        laptop = keep.enter_context(new_laptop(folder, keyring))
        prepared = prepare(laptop)
        before = box.accepted()
        first = laptop.must("up", box.name)
        _JOBS[box.name] = MainJob(
            laptop=laptop,
            stack=StackOnBox(box=box, name=f"jupbox-ada_{box.name}"),
            first=first,
            logins=box.accepted() - before,
            prepared=prepared,
        )
    job = _JOBS[box.name]
    job.ensure_running()
    return job


@pytest.fixture
def ada(workbox: BoxUnderTest, keyring: Keyring, pytestconfig: pytest.Config) -> MainJob:
    """The main job on workbox as the user ada; it runs when the test begins."""
    return main_job(workbox, keyring, pytestconfig)


@pytest.fixture
def ada_on_store(storebox: BoxUnderTest, keyring: Keyring, pytestconfig: pytest.Config) -> MainJob:
    """The same on storebox, where the base was made by the box itself."""
    return main_job(storebox, keyring, pytestconfig, prepare=_lock_from_a_mac)


def _lock_from_a_mac(laptop: Laptop) -> Answer:
    """Lock `minimal` on storebox as root, from a laptop that is no Linux."""
    folder = laptop.folder.parent / "mac"
    folder.mkdir()
    uname = folder / "uname"
    uname.write_text('#!/bin/sh\n[ "$1" = -s ] && echo Darwin || exec /bin/uname "$@"\n')
    uname.chmod(0o755)
    mac = laptop.at(
        folder,
        PATH=f"{folder}:{laptop.environ['PATH']}",
        XDG_DATA_HOME=str(folder / "data"),
    )
    return mac.must("lock", "--on", "storebox-root")


@pytest.fixture
def other_laptop(tmp_path: Path, keyring: Keyring) -> Iterator[Laptop]:
    """A second laptop, with no state of its own."""
    with new_laptop(tmp_path, keyring) as laptop:
        yield laptop


# --- into an image ----------------------------------------------------------------------------


def files_of_image(box: BoxUnderTest, image: str, path: str) -> dict[str, tarfile.TarInfo]:
    """The entries at and below a path of an image of the box, by name from its last part on."""
    made = box.exec("docker", "create", image).strip()
    try:
        copy = ["docker", "exec", box.container, "docker", "cp", f"{made}:{path}", "-"]
        done = subprocess.run(copy, check=True, capture_output=True, timeout=60)
    finally:
        box.exec("docker", "rm", "--force", made)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        return {member.name: member for member in tar}


@dataclass(frozen=True, kw_only=True)
class Saved:
    """All of an image, as `docker save` writes it.

    Attributes:
        layers: tars, the base's first.
        rest: everything else: configuration with the history, manifests.
    """

    layers: tuple[bytes, ...]
    rest: bytes

    def holds(self, marker: bytes) -> bool:
        """Whether the bytes stand anywhere in it."""
        return any(marker in part for part in (*self.layers, self.rest))

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Every entry of every layer."""
        for layer in self.layers:
            with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
                yield from tar


def save(box: BoxUnderTest, image: str) -> Saved:
    """`docker save` of an image of the box, each layer unpacked."""
    done = subprocess.run(
        ["docker", "exec", box.container, "docker", "save", image],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        files = {m.name: f.read() for m in tar if m.isfile() and (f := tar.extractfile(m))}
    manifest = json.loads(files["manifest.json"])[0]
    layers = tuple(_unpacked(files.pop(name)) for name in manifest["Layers"])
    return Saved(layers=layers, rest=b"\0".join(files.values()))


def _unpacked(blob: bytes) -> bytes:
    if blob[:2] != b"\x1f\x8b":
        return blob
    return gzip.decompress(blob)
