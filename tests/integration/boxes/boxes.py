"""A box under test: a container that stands for a remote host, and how to look into it."""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pytest_docker.plugin import get_docker_services

from tests.integration.boxes.images import IMAGES, ensure_image, one_at_a_time, run

COMPOSE_FILE = Path(__file__).resolve().parents[1] / "docker-compose.yml"
OWNER_LABEL = "jupbox.test.owner"
# the image of each box, by the variable that names it
BOXES = {
    "workbox": "BOX_IMAGE_ENGINE13",
    "storebox": "BOX_IMAGE_ENGINE13",
    "bare12": "BOX_IMAGE_BARE12",
    "bare13": "BOX_IMAGE_BARE13",
    "systemd12": "BOX_IMAGE_SYSTEMD12",
}
# below the kernel's own range for outgoing connections: a box keeps its port over a restart
PORTS = range(20000, 32000)


def wait_until(condition: Callable[[], bool], what: str, *, timeout: float = 120.0) -> None:
    """Look again and again until `condition` holds; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout:.0f} s")
        time.sleep(0.1)


@dataclass(frozen=True, kw_only=True)
class BoxUnderTest:
    """A running box. `name` is its ssh alias (user ada), `<name>-root` logs in as root."""

    name: str
    container: str
    port: int
    ssh_config: Path
    has_engine: bool

    @property
    def address(self) -> str:
        """The box's address on this machine's bridge, reachable from here alone."""
        template = "{{.NetworkSettings.IPAddress}}"
        return run("docker", "inspect", "--format", template, self.container).strip()

    def exec(self, *argv: str, input: str = "", timeout: float = 120.0) -> str:
        """What a command, run in the box as root, printed; it must succeed."""
        done = subprocess.run(
            ["docker", "exec", "-i", self.container, *argv],
            check=False,
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{self.name}: {shlex.join(argv)}: {done.stderr}{done.stdout}"
        return done.stdout

    def succeeds(self, *argv: str) -> bool:
        """Whether a command, run in the box as root, ends with exit code 0."""
        command = ["docker", "exec", self.container, *argv]
        return (
            subprocess.run(command, check=False, capture_output=True, timeout=120).returncode == 0
        )

    def accepted(self) -> int:
        """How many ssh logins the box has let in since it was made."""
        return self.exec("cat", "/var/log/sshd.log").count("Accepted publickey")

    def restart(self) -> None:
        """Boot the box: everything in it is told to stop, then PID 1 starts again."""
        run("docker", "restart", self.container)
        self.wait_until_up()

    def restart_engine(self) -> None:
        """Stop the engine in order, and wait for the next one."""
        self._end_engine("-TERM")

    def kill_engine(self) -> None:
        """SIGKILL the engine, and wait for the next one."""
        self._end_engine("-KILL")

    def wait_until_up(self) -> None:
        """Wait until sshd answers and, where the box has one, the engine."""
        wait_until(self._listens, f"sshd of {self.name}")
        if self.has_engine:
            wait_until(self._engine_answers, f"engine of {self.name}")

    def _end_engine(self, signal: str) -> None:
        before = self._engine_pid()
        self.exec("kill", signal, before)
        wait_until(
            lambda: self._engine_pid() not in {"", before} and self._engine_answers(),
            f"next engine of {self.name}",
        )

    def _engine_pid(self) -> str:
        command = ["docker", "exec", self.container, "pgrep", "--exact", "--oldest", "dockerd"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        return done.stdout.strip()

    def _engine_answers(self) -> bool:
        return self.succeeds("docker", "version")

    def _listens(self) -> bool:
        return ":22" in self.exec("ss", "--no-header", "--listening", "--tcp", "--numeric")


@dataclass(frozen=True, kw_only=True)
class Keyring:
    """The ssh files of one test run: a key of its own, and a configuration file a box."""

    directory: Path

    @property
    def key(self) -> Path:
        """The private key that every box of the run lets in."""
        return self.directory / "id_ed25519"

    @property
    def public_key(self) -> str:
        """The line for authorized_keys."""
        return self.key.with_suffix(".pub").read_text().strip()

    def configuration(self, box: str) -> Path:
        """The ssh configuration of one box."""
        return self.directory / f"{box}.conf"


def make_keyring(directory: Path) -> Keyring:
    """Make the run's key in `directory`, which only we may enter."""
    directory.chmod(0o700)
    keyring = Keyring(directory=directory)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "jupbox test", "-f", str(keyring.key))
    return keyring


@contextmanager
def running_box(
    service: str, keyring: Keyring, *, alias: str | None = None
) -> Iterator[BoxUnderTest]:
    """Bring a box up, and take it and all it held away at the end.

    Args:
        service: which, by its name in docker-compose.yml.
        keyring: whose key it lets in, and which learns to reach it.
        alias: its ssh alias, where that of the service is in use.
    """
    name = alias or service
    project = f"jupboxtest-{name}-{uuid4().hex[:12]}"
    port = _free_port()
    settings = {
        "BOX_PORT": str(port),
        "BOX_OWNER": owner_of_this_process(),
        "BOX_AUTHORIZED_KEY": keyring.public_key,
        BOXES[service]: ensure_image(IMAGES[BOXES[service]]),
    }
    assignments = " ".join(f"{key}={shlex.quote(value)}" for key, value in settings.items())
    with get_docker_services(
        docker_compose_command=f"env {assignments} docker compose --progress quiet",
        docker_compose_file=str(COMPOSE_FILE),
        docker_compose_project_name=project,
        docker_setup=f"up --detach --pull never {service}",
        docker_cleanup="down --volumes --timeout 0",
    ):
        box = BoxUnderTest(
            name=name,
            container=f"{project}-{service}-1",
            port=port,
            ssh_config=keyring.configuration(name),
            has_engine=BOXES[service].startswith("BOX_IMAGE_ENGINE"),
        )
        box.wait_until_up()
        _write_ssh_configuration(box, keyring)
        yield box
        box.ssh_config.unlink()


def remove_leftovers() -> None:
    """Remove the boxes of test runs that are dead."""
    with one_at_a_time("leftovers"):
        listing = ("--filter", f"label={OWNER_LABEL}", "--format")
        label = f'{{{{.Label "{OWNER_LABEL}"}}}}'
        containers = run("docker", "ps", "--all", *listing, "{{.ID}} " + label)
        for identifier in _orphans(containers):
            _forget("docker", "rm", "--force", "--volumes", identifier)
        volumes = run("docker", "volume", "ls", *listing, "{{.Name}} " + label)
        for identifier in _orphans(volumes):
            _forget("docker", "volume", "rm", "--force", identifier)


def owner_of_this_process() -> str:
    """Names this process and no later one of the same number."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def write_laptop(home: Path, runtime: Path, keyring: Keyring) -> dict[str, str]:
    """Make an empty HOME that reaches the run's boxes; returns the environment to run in.

    OpenSSH takes the home directory from the passwd file and not from HOME, so an `ssh` first on
    PATH names the configuration; docker's own ssh:// goes through it, too.
    """
    real_ssh = shutil.which("ssh")
    assert real_ssh is not None, "the tests need an ssh client"
    configuration = home / ".ssh" / "config"
    configuration.parent.mkdir(parents=True, mode=0o700)
    configuration.write_text(f"Include {keyring.directory}/*.conf\n")
    wrapper = home / "bin" / "ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {real_ssh} -F {shlex.quote(str(configuration))} "$@"\n')
    wrapper.chmod(0o755)
    return laptop_environment(os.environ, home=home, runtime=runtime)


def laptop_environment(ambient: Mapping[str, str], *, home: Path, runtime: Path) -> dict[str, str]:
    """The surrounding environment without what would reach past the empty HOME."""
    personal = re.compile(
        r"DOCKER_|BUILDX_|COMPOSE_|SSH_(?!.*CERT)|XDG_|JUPBOX_|JUPYTER|PYTHONDONTWRITEBYTECODE"
    )
    kept = {name: value for name, value in ambient.items() if not personal.match(name)}
    return kept | {
        "HOME": str(home),
        "PATH": f"{home / 'bin'}:{ambient['PATH']}",
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local" / "share"),
        "XDG_STATE_HOME": str(home / ".local" / "state"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_RUNTIME_DIR": str(runtime),
    }


def end_ssh_masters(runtime: Path) -> None:
    """End the shared ssh connections whose sockets a test left in its runtime directory."""
    # not the sockets that a connection forwards: what answers there is no ssh
    for path in runtime.rglob("*.ctl"):
        if path.is_socket():
            command = ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "unused"]
            subprocess.run(command, check=False, capture_output=True, timeout=10)


def _write_ssh_configuration(box: BoxUnderTest, keyring: Keyring) -> None:
    host_key = box.exec("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
    known_hosts = keyring.directory / f"{box.name}.known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{box.port} {host_key[0]} {host_key[1]}\n")
    box.ssh_config.write_text(
        "".join(
            f"Host {alias}\n"
            f"  HostName 127.0.0.1\n  Port {box.port}\n  User {user}\n"
            f"  IdentityFile {keyring.key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {known_hosts}\n  StrictHostKeyChecking yes\n"
            for alias, user in ((box.name, "ada"), (f"{box.name}-root", "root"))
        )
    )


def _free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _orphans(listing: str) -> Iterator[str]:
    for line in listing.splitlines():
        identifier, owner = line.split(" ", 1)
        hostname, pid, started = owner.rsplit(":", 2)
        # only of processes that we could see if they lived
        if hostname == socket.gethostname() and _started(int(pid)) != started:
            yield identifier


def _started(pid: int) -> str:
    """When a process started, in the kernel's own ticks; empty when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # proc_pid_stat(5), field 22


def _forget(*argv: str) -> None:
    # another run may be removing the same
    subprocess.run(argv, check=False, capture_output=True, timeout=120)
