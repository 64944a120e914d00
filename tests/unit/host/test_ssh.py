"""The ssh connection, as far as it goes without a host."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from jupbox.errors import AuthError, ClientError, HostError, HostKeyError, JupboxError
from jupbox.host import ssh as room
from jupbox.host.machine import Completed
from jupbox.host.ssh import SshMachine

SETTINGS = {"hostname": "workbox.example.org", "port": "22", "user": "alice"}
FINGERPRINT = "SHA256:0123456789abcdef"


@dataclass
class FakeSsh:
    """Answers instead of ssh, and remembers how it was called."""

    settings: dict[str, str] = field(default_factory=lambda: dict(SETTINGS))
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)

    def __call__(
        self, argv: Sequence[str], *, input: bytes, timeout: float, machine: str
    ) -> Completed:
        self.calls.append(list(argv))
        if "-G" in argv:
            code, out = self.answers.get("-G", (0, self._text()))
        else:
            kind = next((word for word in ("check", "forward", "exit") if word in argv), "command")
            code, out = self.answers.get(kind, (0, b""))
        return Completed(argv=tuple(argv), returncode=code, stdout=out, stderr=out)

    def _text(self) -> bytes:
        return "".join(f"{key} {value}\n" for key, value in self.settings.items()).encode()


@pytest.fixture
def ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeSsh:
    fake = FakeSsh()
    monkeypatch.setattr(room, "run_here", fake)
    monkeypatch.setattr(room, "runtime_directory", lambda: tmp_path)
    return fake


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_unreachable", lambda host, port, **_: None)


def connected(machine: SshMachine) -> SshMachine:
    assert machine.settings
    machine._control.touch()
    return machine


# --- destinations and settings ----------------------------------------------------------------


@pytest.mark.parametrize("destination", ["-oProxyCommand=evil", "-", "--", "-l root"])
def test_a_destination_that_looks_like_an_option_is_refused(destination: str) -> None:
    with pytest.raises(HostError, match="not an ssh destination"):
        SshMachine(destination)


def test_making_a_machine_starts_nothing(ssh: FakeSsh) -> None:
    machine = SshMachine("workbox")
    assert (machine.name, machine.is_local) == ("workbox", False)
    assert ssh.calls == []


def test_the_host_name_is_what_ssh_makes_of_the_destination(ssh: FakeSsh) -> None:
    assert SshMachine("workbox").host_name == "workbox.example.org"


def test_settings_are_asked_once(ssh: FakeSsh) -> None:
    machine = SshMachine("workbox")
    assert machine.settings == machine.settings == SETTINGS
    assert len(ssh.calls) == 1


def test_no_ssh_here_is_said_so(ssh: FakeSsh) -> None:
    ssh.answers["-G"] = (127, b"not found")
    with pytest.raises(ClientError, match="no `ssh`"):
        _ = SshMachine("workbox").settings


def test_a_configuration_that_ssh_refuses_is_an_error_with_sshs_words(ssh: FakeSsh) -> None:
    ssh.answers["-G"] = (255, b"config line 3: Bad configuration option: prot")
    with pytest.raises(HostError, match="Bad configuration option: prot"):
        _ = SshMachine("workbox").settings


# --- one connection for each configuration ----------------------------------------------------


def control(ssh: FakeSsh, destination: str = "workbox", **changes: str) -> Path:
    ssh.settings = SETTINGS | changes
    machine = SshMachine(destination)
    assert machine.settings
    return machine._control


@pytest.mark.parametrize(
    "changes",
    [
        {"proxyjump": "gate"},
        {"port": "2222"},
        {"user": "bob"},
        {"hostname": "other.example.org"},
        {"identityfile": "~/.ssh/other"},
    ],
)
def test_another_configuration_is_another_connection(ssh: FakeSsh, changes: dict[str, str]) -> None:
    assert control(ssh, **changes) != control(ssh)


def test_the_same_configuration_is_the_same_connection(ssh: FakeSsh) -> None:
    assert control(ssh) == control(ssh)


def test_another_destination_is_another_connection(ssh: FakeSsh) -> None:
    assert control(ssh, "alice@workbox") != control(ssh, "workbox")


def test_a_control_path_is_short_and_shows_no_name(ssh: FakeSsh) -> None:
    name = control(ssh, "a" * 200).name
    assert len(name) <= 23  # ssh adds 17 characters, and 40 are left in the directory
    assert "workbox" not in name


def test_every_call_goes_through_the_control_socket_and_ends_its_options(ssh: FakeSsh) -> None:
    machine = connected(SshMachine("workbox"))
    machine.run(["echo", "a b", "$HOME", "it's"], check=False)
    for call in ssh.calls[1:]:
        # neither its configuration nor a way of its own: without the master it fails
        assert call[:5] == ["ssh", "-F", "none", "-o", "ProxyCommand=false"]
        assert call[5:7] == ["-S", str(machine._control)]
        assert call[call.index("--") + 1] == "workbox"
    assert ssh.calls[-1][-1] == "echo 'a b' '$HOME' 'it'\"'\"'s'"


# --- commands ---------------------------------------------------------------------------------


def test_a_command_that_fails_is_named_with_its_last_words(ssh: FakeSsh) -> None:
    ssh.answers["command"] = (3, b"first\nno such thing\n")
    with pytest.raises(HostError, match=r"`tool` failed on workbox: no such thing"):
        connected(SshMachine("workbox")).run(["tool"])


def test_unchecked_it_is_just_its_exit_code(ssh: FakeSsh) -> None:
    ssh.answers["command"] = (3, b"")
    assert connected(SshMachine("workbox")).run(["tool"], check=False).returncode == 3


def test_a_command_may_end_with_the_code_that_ssh_uses(ssh: FakeSsh) -> None:
    ssh.answers["command"] = (255, b"")
    assert connected(SshMachine("workbox")).run(["tool"], check=False).returncode == 255


def test_a_connection_lost_in_a_command_is_an_error(ssh: FakeSsh) -> None:
    machine = connected(SshMachine("workbox"))
    ssh.answers["command"] = (255, b"")
    checks: Iterator[bool] = iter([True, False])
    machine.is_connected = lambda: next(checks)  # type: ignore[method-assign]
    with pytest.raises(HostError, match="connection to workbox was lost"):
        machine.run(["tool"], check=False)


# --- forwards ---------------------------------------------------------------------------------


@pytest.fixture
def forwarding(ssh: FakeSsh, tmp_path: Path) -> Iterator[tuple[SshMachine, Path]]:
    """A connected machine, and its local socket with something that accepts on it."""
    machine = connected(SshMachine("workbox"))
    local = machine._control.with_suffix(".sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(local))
        server.listen()
        yield machine, local


def forwards(ssh: FakeSsh) -> list[str]:
    return [call[call.index("-L") + 1] for call in ssh.calls if "forward" in call]


def test_a_socket_that_leads_there_already_is_used_again(
    ssh: FakeSsh, forwarding: tuple[SshMachine, Path]
) -> None:
    machine, local = forwarding
    local.with_suffix(".to").write_text("/run/docker.sock")
    assert machine.local_socket("/run/docker.sock") == local
    assert forwards(ssh) == []


def test_a_socket_that_leads_elsewhere_is_made_anew(
    ssh: FakeSsh, forwarding: tuple[SshMachine, Path]
) -> None:
    machine, local = forwarding
    local.with_suffix(".to").write_text("/run/user/1/docker.sock")
    assert machine.local_socket("/run/docker.sock") == local
    assert forwards(ssh) == [f"{local}:/run/docker.sock"]


def test_a_dead_socket_is_taken_away_first(ssh: FakeSsh) -> None:
    machine = connected(SshMachine("workbox"))
    local = machine._control.with_suffix(".sock")
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(local))
    assert machine.local_socket("/run/docker.sock") == local
    assert not local.exists()
    assert forwards(ssh) == [f"{local}:/run/docker.sock"]


def test_a_host_that_forbids_forwarding_is_told_apart(ssh: FakeSsh) -> None:
    ssh.answers["forward"] = (255, b"administratively prohibited")
    with pytest.raises(HostError, match="does not forward") as caught:
        connected(SshMachine("workbox")).local_socket("/run/docker.sock")
    assert "AllowStreamLocalForwarding" in caught.value.remedy


def test_a_tunnel_is_bound_to_the_loopback_and_taken_down(ssh: FakeSsh) -> None:
    machine = connected(SshMachine("workbox"))
    with machine.tunnel(8888) as here:
        assert forwards(ssh) == [f"127.0.0.1:{here}:127.0.0.1:8888"]
    last = ssh.calls[-1]
    assert "cancel" in last
    assert last[last.index("-L") + 1] == f"127.0.0.1:{here}:127.0.0.1:8888"


def test_a_tunnel_takes_another_port_when_somebody_was_faster(
    ssh: FakeSsh, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = connected(SshMachine("workbox"))
    faster = socket.socket()

    def forward(argv: Sequence[str], **options: Any) -> Completed:
        done = ssh(argv, **options)
        if "forward" not in argv or faster.getsockname()[1]:
            return done
        faster.bind(("127.0.0.1", int(argv[argv.index("-L") + 1].split(":")[1])))
        faster.listen()
        return replace(done, returncode=255, stderr=b"Port forwarding failed")

    monkeypatch.setattr(room, "run_here", forward)
    with faster, machine.tunnel(8888) as here:
        taken = faster.getsockname()[1]
        assert forwards(ssh) == [f"127.0.0.1:{port}:127.0.0.1:8888" for port in (taken, here)]
        assert here != taken


def test_the_socket_of_a_killed_connection_is_away_before_the_next_one_starts(
    ssh: FakeSsh, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = connected(SshMachine("workbox"))
    ssh.answers["check"] = (255, b"")
    there: list[bool] = []

    def start(argv: Sequence[str], **_options: object) -> subprocess.CompletedProcess[bytes]:
        there.append(machine._control.exists())
        return subprocess.CompletedProcess(argv, 0)

    monkeypatch.setattr(room.subprocess, "run", start)
    machine.connect()
    assert there == [False]


def test_disconnecting_without_a_connection_does_nothing(ssh: FakeSsh) -> None:
    machine = SshMachine("workbox")
    assert machine.settings
    machine.disconnect()
    assert not [call for call in ssh.calls if "exit" in call]


# --- refusals ---------------------------------------------------------------------------------

CHANGED = (
    "@@@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@@@@\n"
    f"The fingerprint for the ED25519 key sent by the remote host is\n{FINGERPRINT}.\n"
    "Host key verification failed."
)


@pytest.mark.usefixtures("ssh", "reachable")
@pytest.mark.parametrize(
    ("said", "kind", "message", "remedy"),
    [
        (CHANGED, HostKeyError, "another one than before", "ssh-keygen -R workbox.example.org"),
        ("Host key verification failed.", HostKeyError, "not known yet", "compare"),
        ("alice@workbox: Permission denied (publickey).", AuthError, "refused", "ssh workbox"),
        (
            "Received disconnect: Too many authentication failures",
            AuthError,
            "refused",
            "ssh workbox",
        ),
        ("kex_exchange\nConnection reset", HostError, "Connection reset", "ssh workbox"),
        ("", HostError, "no reason", "ssh workbox"),
    ],
)
def test_why_there_is_no_connection(
    said: str, kind: type[JupboxError], message: str, remedy: str
) -> None:
    error = SshMachine("workbox")._refusal(said)
    assert type(error) is kind
    assert message in error.message
    assert remedy in error.remedy


def test_what_can_be_looked_at_comes_before_sshs_words(
    ssh: FakeSsh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_unreachable", lambda host, port, **_: f"{host} port {port}: no")
    error = SshMachine("workbox")._refusal("Permission denied")
    assert type(error) is HostError
    assert "workbox.example.org port 22: no" in error.message


@pytest.mark.parametrize("way", [{"proxyjump": "gate"}, {"proxycommand": "nc %h %p"}])
def test_a_host_behind_another_is_not_looked_at_from_here(
    ssh: FakeSsh, monkeypatch: pytest.MonkeyPatch, way: dict[str, str]
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(room, "_unreachable", lambda host, port, **_: looked.append(host))
    ssh.settings |= way
    assert isinstance(SshMachine("workbox")._refusal("Permission denied"), AuthError)
    assert looked == []


def test_a_name_that_is_not_known_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_arguments: object, **_options: object) -> list[object]:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert room._unreachable("nowhere.invalid", 22) == "the name nowhere.invalid is not known"


def test_a_closed_port_is_said_so_and_an_open_one_is_fine() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        server.listen()
        assert room._unreachable("127.0.0.1", port) is None
    reason = room._unreachable("127.0.0.1", port)
    assert reason == f"127.0.0.1 port {port}: Connection refused"


# --- with the real ssh ------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the real `ssh` read a configuration of the test's; it connects to nothing."""
    path, binary = tmp_path / "config", tmp_path / "bin"
    binary.mkdir()
    real = shutil.which("ssh")
    assert real, "these tests need an OpenSSH client"
    (binary / "ssh").write_text(f'#!/bin/sh\nexec {real} -F {path} "$@"\n')
    (binary / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{binary}:/usr/bin:/bin")
    monkeypatch.setattr(room, "runtime_directory", lambda: tmp_path)

    def write(text: str) -> None:
        path.write_text(text)

    return write


def command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_text(errors="replace")


@pytest.mark.real_process
def test_jump_hosts_ports_and_names_are_sshs_own_matter(config: Callable[[str], None]) -> None:
    config("Host workbox\n  HostName w.example.org\n  Port 2222\n  User alice\n  ProxyJump gate\n")
    settings = SshMachine("workbox").settings
    asked = {key: settings[key] for key in ("hostname", "port", "user", "proxyjump")}
    assert asked == {
        "hostname": "w.example.org",
        "port": "2222",
        "user": "alice",
        "proxyjump": "gate",
    }


@pytest.mark.real_process
def test_a_change_in_sshs_configuration_is_another_connection(
    config: Callable[[str], None],
) -> None:
    digests = set()
    for text in ("", "Host w\n  ProxyJump gate\n", "Host w\n  IdentityFile ~/.ssh/w\n"):
        config(text)
        machine = SshMachine("w")
        assert machine.settings
        digests.add(machine._digest)
    assert len(digests) == 3


@pytest.mark.real_process
def test_a_broken_configuration_is_an_error_with_sshs_reason(
    config: Callable[[str], None],
) -> None:
    config("Nonsense yes\n")
    with pytest.raises(HostError, match="does not accept its configuration"):
        _ = SshMachine("workbox").settings


@pytest.mark.real_process
def test_a_closed_port_fails_at_once_and_leaves_no_process(
    config: Callable[[str], None], tmp_path: Path
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    config(f"Host workbox\n  HostName 127.0.0.1\n  Port {port}\n")
    with pytest.raises(HostError, match="Connection refused"):
        SshMachine("workbox").run(["true"])
    assert not [line for line in command_lines() if str(tmp_path) in line]
