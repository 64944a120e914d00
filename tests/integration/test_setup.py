"""`setup` on real hosts that have no engine, and on a system that it does not know."""

from __future__ import annotations

import io
import shlex
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from jupbox.errors import SetupError
from jupbox.host import gpu
from jupbox.host.machine import Completed
from jupbox.host.setup import EngineState, Vendor, look, plan_setup, setup
from tests.integration.boxes.boxes import BoxUnderTest, Keyring, running_box, wait_until

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class OverSsh:
    """A `Machine` with a new login for each command, so that new groups count at once."""

    name: str
    env: Mapping[str, str]
    is_local: bool = False

    def run(
        self, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60.0, check: bool = True
    ) -> Completed:
        done = subprocess.run(
            ["ssh", self.name, "--", shlex.join(argv)],
            check=check,
            input=input,
            capture_output=True,
            timeout=timeout,
            env=self.env,
        )
        return Completed(
            argv=tuple(argv), returncode=done.returncode, stdout=done.stdout, stderr=done.stderr
        )

    def local_socket(self, remote: str) -> Path:
        raise NotImplementedError

    def tunnel(self, port: int, *, local_port: int = 0) -> AbstractContextManager[int]:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class InRoot(OverSsh):
    """The same, with another system's os-release in its place."""

    os_release: str = ""

    def run(
        self, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60.0, check: bool = True
    ) -> Completed:
        pretended = f"printf %s {shlex.quote(self.os_release)} > /tmp/os-release\n".encode()
        script = pretended + input.replace(b"/etc/os-release", b"/tmp/os-release")
        return super().run(argv, input=script, timeout=timeout, check=check)


def an_image() -> bytes:
    """A root filesystem with one file, for `docker import`; it is mounted into, never run."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    return tar.getvalue()


def runs_a_container(machine: OverSsh, *options: str) -> bool:
    """Whether an ordinary `docker run` works: the host's own programs, mounted into an image."""
    machine.run(["docker", "import", "-", "jupbox-setup-test"], input=an_image())
    mounts = [
        word for place in ("/usr", "/lib", "/lib64") for word in ("-v", f"{place}:{place}:ro")
    ]
    command = ["docker", "run", "--rm", *options, *mounts, "jupbox-setup-test"]
    done = machine.run([*command, "/usr/bin/echo", "it runs"], timeout=120, check=False)
    return done.text == "it runs\n"


def versions_from(box: BoxUnderTest, suite: str) -> set[str]:
    """The installed packages whose installed version `suite` of the mirror has."""
    script = r"""
        dpkg-query -W -f '${Package}\n' | xargs apt-cache policy |
        awk -v suite="$1" '
            /^[^ ]/ {sub(":", ""); package = $1}
            / \*\*\* / {installed = 1; next}
            /^     [^ ]/ {installed = 0}
            installed && $3 ~ "^" suite "/" {print package}'
    """
    return set(box.exec("sh", "-c", script, "sh", suite).split())


def test_debian_12_gets_an_engine_by_sudo_and_nothing_else_of_debian_13(
    bare12: BoxUnderTest, laptop: dict[str, str]
) -> None:
    machine = OverSsh(name="bare12", env=laptop)
    said: list[str] = []

    state = setup(machine, say=said.append)

    assert runs_a_container(machine)
    assert state.in_docker_group
    assert state.socket_usable
    assert not state.enabled_at_boot
    assert any("can become root" in sentence for sentence in said)
    assert any("nothing starts the engine after a boot" in sentence for sentence in said)
    engine = {"docker.io", "docker-cli", "docker-compose", "docker-buildx", "containerd"}
    of_debian_12 = versions_from(bare12, "bookworm")
    assert versions_from(bare12, "trixie") - of_debian_12 == engine
    assert {"runc", "libc6", "iptables"} <= of_debian_12
    check_that_again_does_nothing(bare12, machine)


def test_systemd_starts_the_engine_now_and_at_the_next_boot(
    systemd12: BoxUnderTest, laptop: dict[str, str]
) -> None:
    machine = OverSsh(name="systemd12", env=laptop)

    state = setup(machine, say=lambda sentence: None)

    assert state.enabled_at_boot
    assert runs_a_container(machine)
    assert plan_setup(look(machine)) == ()
    systemd12.restart()
    wait_until(lambda: look(machine).running, "the engine after the boot")
    systemd12.exec("systemctl", "disable", "--now", "docker.service", "docker.socket")
    assert [step.title for step in plan_setup(look(machine))] == ["Start the Docker engine"]
    assert setup(machine, say=lambda sentence: None).enabled_at_boot


@pytest.mark.box
def test_the_old_engine_of_debian_12_is_upgraded_while_it_runs(
    keyring: Keyring, laptop: dict[str, str]
) -> None:
    with running_box("bare12", keyring, alias="old12") as box:
        machine = OverSsh(name="old12", env=laptop)
        install = "apt-get update && apt-get install -y --no-install-recommends docker.io"
        box.exec("sh", "-c", install, timeout=600)
        box.exec("setsid", "--fork", "sh", "-c", "pgrep -x dockerd || exec dockerd 2> /dev/null")
        wait_until(lambda: box.succeeds("docker", "version"), "the old engine")
        old = look(machine)
        assert old.engine_version is not None
        assert old.engine_version.startswith("20.10")

        new = setup(machine, say=lambda sentence: None)

        assert new.engine_version is not None
        assert new.engine_version.startswith("26.1")
        assert runs_a_container(machine)


def test_debian_13_gets_an_engine_by_root(bare13: BoxUnderTest, laptop: dict[str, str]) -> None:
    machine = OverSsh(name="bare13-root", env=laptop)

    state = setup(machine, say=lambda sentence: None)

    assert runs_a_container(machine)
    assert state.engine_version is not None
    assert state.running
    assert "ada" not in bare13.exec("getent", "group", "docker")
    check_that_again_does_nothing(bare13, machine)
    check_that_a_stopped_engine_is_started(bare13, machine)
    check_that_another_user_is_let_in(bare13, laptop)
    check_that_its_gpus_can_be_handed_out(bare13, laptop)


def check_that_again_does_nothing(box: BoxUnderTest, machine: OverSsh) -> None:
    before = fingerprint(box)
    assert plan_setup(look(machine), clients=True) == ()
    setup(machine, say=lambda sentence: None)
    assert fingerprint(box) == before


def fingerprint(box: BoxUnderTest) -> str:
    """What a second setup could have changed: packages, apt's files, groups, the engine itself."""
    script = "dpkg -l; ls -lR --full-time /etc/apt; cat /etc/group; pgrep -x dockerd"
    return box.exec("sh", "-c", script)


def check_that_a_stopped_engine_is_started(box: BoxUnderTest, machine: OverSsh) -> None:
    # SIGKILL leaves the pid file and the socket behind
    box.exec("pkill", "-KILL", "-x", "dockerd")
    stopped = look(machine)
    assert not stopped.running
    assert [step.title for step in plan_setup(stopped)] == ["Start the Docker engine"]
    assert setup(machine, say=lambda sentence: None).running


def check_that_another_user_is_let_in(box: BoxUnderTest, laptop: dict[str, str]) -> None:
    ada = OverSsh(name=box.name, env=laptop)
    assert [step.title for step in plan_setup(look(ada))] == ["Let ada use the engine"]
    assert setup(ada, say=lambda sentence: None).socket_usable


# A package of the toolkit's name whose runtime is runc, in a repository in a folder.
FAKE_TOOLKIT = r"""
mkdir -p /opt/fake/package/DEBIAN /opt/fake/package/usr/bin
cd /opt/fake
printf '%s\n' 'Package: nvidia-container-toolkit' 'Version: 1' 'Architecture: all' \
    'Maintainer: nobody <nobody@localhost>' 'Description: none' > package/DEBIAN/control
cat > package/usr/bin/nvidia-ctk <<'SH'
#!/bin/sh
[ "$*" = "runtime configure --runtime=docker" ] || exit 2
mkdir -p /etc/docker
echo '{"runtimes": {"nvidia": {"path": "runc"}}}' > /etc/docker/daemon.json
SH
printf '#!/bin/sh\n' > package/usr/bin/nvidia-container-runtime-hook
chmod 0755 package/usr/bin/*
dpkg-deb --build package toolkit.deb
{ cat package/DEBIAN/control; echo 'Filename: ./toolkit.deb'; echo "Size: $(stat -c %s toolkit.deb)"
  echo "SHA256: $(sha256sum toolkit.deb | cut -d ' ' -f 1)"; } > Packages
echo 'deb [trusted=yes] file:/opt/fake ./' > /etc/apt/sources.list.d/fake.list
"""


def check_that_its_gpus_can_be_handed_out(box: BoxUnderTest, laptop: dict[str, str]) -> None:
    machine = OverSsh(name=box.name, env=laptop)  # ada, by sudo
    said: list[str] = []
    with pytest.raises(SetupError, match="no NVIDIA GPU, or its driver is not loaded"):
        gpu.setup_gpu(machine, say=said.append)
    box.exec("touch", "/dev/nvidiactl")
    nowhere = Vendor(url="https://127.0.0.1:9/nvidia", key_sha256="0" * 64)
    with pytest.raises(SetupError, match=r"127\.0\.0\.1:9 is not reached") as caught:
        gpu.setup_gpu(machine, say=said.append, vendor=nowhere)
    assert gpu.INSTRUCTIONS in caught.value.remedy
    assert not runs_a_container(machine, "--gpus", "all")

    box.exec("sh", "-ec", FAKE_TOOLKIT)
    gpu.setup_gpu(machine, say=said.append)

    assert any("running kernels on this host end" in sentence for sentence in said)
    assert runs_a_container(machine, "--gpus", "all")
    state = look(machine)
    assert gpu.plan_gpu(state, gpu.look(machine, state), name=machine.name) == ()
    # a card that is gone is no reason to refuse what is there
    box.exec("rm", "/dev/nvidiactl")
    before = fingerprint(box)
    gpu.setup_gpu(machine, say=said.append)
    assert fingerprint(box) == before


def test_an_unknown_system_is_refused_and_left_alone(
    bare13: BoxUnderTest, laptop: dict[str, str]
) -> None:
    machine = InRoot(
        name="bare13-root", env=laptop, os_release='ID="opensuse-leap"\nVERSION_ID="15.6"\n'
    )
    unknown: EngineState = replace(
        look(machine), engine_version=None, engine_package=None, running=False
    )
    before = bare13.exec("dpkg", "-l")
    with pytest.raises(SetupError, match=r"opensuse-leap 15\.6") as caught:
        plan_setup(unknown)
    assert "docs.docker.com/engine/install" in caught.value.remedy
    assert bare13.exec("dpkg", "-l") == before
