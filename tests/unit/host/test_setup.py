"""What `setup` makes of what it sees: tables of states and steps, nothing runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from jupbox.errors import SetupError
from jupbox.host.machine import Completed
from jupbox.host.setup import (
    INSTRUCTIONS,
    EngineState,
    Step,
    Vendor,
    parse_state,
    plan_setup,
    setup,
)

INSTALL, START, JOIN = "Install Docker", "Start the Docker engine", "Let ada use the engine"

# a fresh Debian 13 with systemd, and ada who may sudo
BARE = EngineState(
    os_id="debian",
    os_version="13",
    codename="trixie",
    architecture="amd64",
    uid=1500,
    user="ada",
    has_sudo=True,
    has_systemd=True,
    engine_version=None,
    engine_package=None,
    compose_version=None,
    buildx_version=None,
    other_packages=(),
    running=False,
    socket=None,
    socket_usable=False,
    in_docker_group=False,
    has_service=False,
    enabled_at_boot=False,
)
READY = replace(
    BARE,
    engine_version="26.1.5+dfsg1",
    engine_package="docker.io",
    compose_version="2.26.1-4",
    buildx_version="0.13.1+ds1",
    other_packages=("docker-cli", "containerd", "runc"),
    running=True,
    socket="/var/run/docker.sock",
    socket_usable=True,
    in_docker_group=True,
    has_service=True,
    enabled_at_boot=True,
)
VENDORS = replace(READY, engine_package="docker-ce", engine_version="28.5.2", other_packages=())
# by hand, or a socket that was mounted: no package, no service
FOREIGN = replace(VENDORS, engine_package=None, has_service=False, enabled_at_boot=False)
BARE_12 = replace(BARE, os_version="12", codename="bookworm")


def titles(steps: Sequence[Step]) -> list[str]:
    return [step.title for step in steps]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(READY, [], id="ready"),
        pytest.param(VENDORS, [], id="ready, the vendor's"),
        pytest.param(FOREIGN, [], id="ready, by hand"),
        pytest.param(replace(READY, os_id="fedora", os_version="42"), [], id="ready anywhere"),
        pytest.param(replace(READY, has_sudo=False), [], id="ready, no sudo needed"),
        pytest.param(
            replace(READY, has_systemd=False, has_service=False, enabled_at_boot=False),
            [],
            id="ready, no init",
        ),
        pytest.param(BARE, [INSTALL, START, JOIN], id="nothing there"),
        pytest.param(replace(BARE, uid=0, user="root"), [INSTALL, START], id="nothing, root"),
        pytest.param(
            replace(BARE, os_id="ubuntu", os_version="24.04"), [INSTALL, START, JOIN], id="ubuntu"
        ),
        pytest.param(
            replace(BARE, os_id="ubuntu", os_version="26.10"), [INSTALL, START, JOIN], id="newer"
        ),
        pytest.param(replace(READY, running=False), [START], id="stopped"),
        pytest.param(replace(READY, enabled_at_boot=False), [START], id="not at boot"),
        pytest.param(replace(VENDORS, running=False), [START], id="the vendor's, stopped"),
        pytest.param(
            replace(READY, socket_usable=False, in_docker_group=False), [JOIN], id="not let in"
        ),
        pytest.param(replace(READY, socket_usable=False), [], id="let in at the next login"),
        pytest.param(
            replace(READY, engine_version="20.10.24+dfsg1"), [INSTALL, START], id="engine too old"
        ),
        pytest.param(replace(READY, engine_version="26.0.9"), [INSTALL, START], id="just too old"),
        pytest.param(replace(READY, compose_version=None), [INSTALL, START], id="no compose"),
        pytest.param(replace(READY, compose_version="2.25.9"), [INSTALL, START], id="old compose"),
        pytest.param(replace(READY, buildx_version="0.12.0"), [INSTALL, START], id="old buildx"),
    ],
)
def test_only_what_is_missing_is_done(state: EngineState, expected: list[str]) -> None:
    assert titles(plan_setup(state)) == expected


def test_a_remote_machine_needs_no_client() -> None:
    state = replace(VENDORS, compose_version=None, buildx_version=None)
    assert plan_setup(state, clients=False) == ()
    with pytest.raises(SetupError, match="Compose missing"):
        plan_setup(state, clients=True)


@pytest.mark.parametrize(
    ("state", "message", "remedy"),
    [
        pytest.param(
            replace(BARE, os_id="opensuse-leap", os_version="15.6"),
            "opensuse-leap 15.6",
            "",
            id="os",
        ),
        pytest.param(replace(BARE, os_version="11"), "debian 11 is none", "", id="debian 11"),
        pytest.param(replace(BARE, os_version=""), "debian is none", "", id="debian testing"),
        pytest.param(replace(BARE, os_id="", os_version=""), "This system", "", id="no os-release"),
        pytest.param(
            replace(BARE, os_id="ubuntu", os_version="22.04"), "ubuntu 22.04", "", id="old ubuntu"
        ),
        pytest.param(
            replace(VENDORS, engine_version="24.0.7"),
            "Docker 24.0.7",
            "docker-ce",
            id="old vendor's",
        ),
        pytest.param(
            replace(FOREIGN, engine_version="24.0.7"), "24.0.7", "the way it was", id="old foreign"
        ),
        pytest.param(
            replace(BARE, has_sudo=False), "ada may not", "Ask an administrator", id="no right"
        ),
        pytest.param(
            replace(READY, has_sudo=False, running=False), "start the docker", "root", id="stopped"
        ),
    ],
)
def test_what_cannot_be_done_gets_the_vendors_instructions(
    state: EngineState, message: str, remedy: str
) -> None:
    with pytest.raises(SetupError, match=message) as caught:
        plan_setup(state)
    assert INSTRUCTIONS in caught.value.remedy
    assert remedy in caught.value.remedy


def variables(step: Step) -> dict[str, str]:
    """The assignments at the head of a step's script, as sh reads them."""
    found = {}
    for line in step.script.split("\n\n", 1)[0].splitlines():
        word = shlex.split(line)
        if len(word) == 1 and "=" in word[0]:
            name, _, value = word[0].partition("=")
            found[name] = value
    return found


def test_debian_12_takes_from_trixie_the_engine_alone() -> None:
    found = variables(plan_setup(BARE_12)[0])
    engine = "docker.io docker-cli docker-compose docker-buildx containerd"
    assert found["from_trixie"] == engine
    assert "runc" not in found["packages"].split()
    assert variables(plan_setup(BARE)[0])["from_trixie"] == ""


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(BARE, "https://example.org/linux/debian", id="nothing there"),
        pytest.param(
            replace(BARE, os_id="ubuntu", os_version="24.04"),
            "https://example.org/linux/ubuntu",
            id="ubuntu",
        ),
        pytest.param(replace(BARE, other_packages=("containerd",)), "", id="would replace one"),
        pytest.param(
            replace(READY, engine_version="20.10.24", other_packages=()), "", id="distribution's"
        ),
    ],
)
def test_the_vendors_packages_never_replace_the_distributions(
    state: EngineState, expected: str
) -> None:
    vendor = Vendor(url="https://example.org/linux", key_sha256="0" * 64)
    assert variables(plan_setup(state, vendor=vendor)[0])["vendor"] == expected


def test_only_an_upgrade_of_a_running_engine_restarts_it() -> None:
    def restart(state: EngineState) -> str:
        return variables(next(s for s in plan_setup(state) if s.title == START))["restart"]

    assert restart(replace(READY, engine_version="20.10.24")) == "yes"
    assert restart(replace(READY, running=False)) == "no"
    assert restart(BARE) == "no"


def test_a_users_name_cannot_become_a_command() -> None:
    state = replace(READY, user="a; reboot", socket_usable=False, in_docker_group=False)
    assert variables(plan_setup(state)[0]) == {"user": "a; reboot"}


ANSWER = """Welcome to workbox!
jupbox.os_id=debian
jupbox.os_version=13
jupbox.codename=trixie
jupbox.architecture=amd64
jupbox.uid=1500
jupbox.user=ada
jupbox.has_sudo=yes
jupbox.has_systemd=yes
jupbox.socket=/var/run/docker.sock
jupbox.socket_usable=yes
jupbox.running=yes
jupbox.engine_version=26.1.5+dfsg1
jupbox.compose_version=2.26.1-4
jupbox.buildx_version=github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3
jupbox.package=docker.io
jupbox.package=docker-cli
jupbox.package=containerd
jupbox.package=runc
jupbox.groups=ada docker lab
jupbox.has_service=yes
jupbox.enabled_at_boot=yes
"""
BARE_ANSWER = """jupbox.os_id=
jupbox.os_version=
jupbox.codename=
jupbox.architecture=x86_64
jupbox.uid=0
jupbox.user=root
jupbox.has_sudo=no
jupbox.has_systemd=no
jupbox.socket=
jupbox.engine_version=
jupbox.compose_version=
jupbox.buildx_version=
jupbox.groups=root
"""


def test_an_answer_is_read_whatever_the_login_prints_around_it() -> None:
    assert parse_state(ANSWER) == READY


def test_an_answer_of_a_bare_machine_is_read() -> None:
    expected = replace(
        BARE,
        os_id="",
        os_version="",
        codename="",
        architecture="x86_64",
        uid=0,
        user="root",
        has_sudo=False,
        has_systemd=False,
    )
    assert parse_state(BARE_ANSWER) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Docker version 20.10.24+dfsg1, build 297e128", "20.10.24+dfsg1"),
        ("v2.40.3", "2.40.3"),
        ("28.5.2-rc.1", "28.5.2-rc.1"),
        ("", None),
        ("command not found", None),
    ],
)
def test_versions_are_found_in_what_programs_say(said: str, expected: str | None) -> None:
    text = ANSWER.replace("engine_version=26.1.5+dfsg1", f"engine_version={said}")
    assert parse_state(text).engine_version == expected


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """A machine that answers each look with the next text, and each step with one result."""

    looks: list[str]
    step: Callable[[], Completed]
    asked: list[tuple[str, ...]] = field(default_factory=list)
    name: str = "workbox"
    is_local: bool = False

    def run(
        self, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60.0, check: bool = True
    ) -> Completed:
        self.asked.append(tuple(argv))
        if b"tell os_id" not in input:
            return self.step()
        return Completed(
            argv=tuple(argv), returncode=0, stdout=self.looks.pop(0).encode(), stderr=b""
        )

    def local_socket(self, remote: str) -> Path:
        raise NotImplementedError

    def tunnel(self, port: int, *, local_port: int = 0) -> AbstractContextManager[int]:
        raise NotImplementedError


def succeed() -> Completed:
    return Completed(argv=(), returncode=0, stdout=b"", stderr=b"")


def fail() -> Completed:
    error = b"W: slow\nE: Unable to fetch some archives\nSetup ends here\n"
    return Completed(argv=(), returncode=100, stdout=b"", stderr=error)


STOPPED = ANSWER.replace("jupbox.running=yes\n", "")


def test_steps_go_through_sudo_and_the_result_is_looked_at() -> None:
    machine = Scripted(looks=[STOPPED, ANSWER], step=succeed)
    assert setup(machine, say=lambda sentence: None) == READY
    assert machine.asked == [("sh", "-s"), ("sudo", "-n", "sh", "-s"), ("sh", "-s")]


def test_root_needs_no_sudo() -> None:
    root = STOPPED.replace("uid=1500", "uid=0").replace("has_sudo=yes", "has_sudo=no")
    machine = Scripted(looks=[root, ANSWER], step=succeed)
    setup(machine, say=lambda sentence: None)
    assert machine.asked[1] == ("sh", "-s")


def test_a_ready_machine_is_only_looked_at() -> None:
    said: list[str] = []
    machine = Scripted(looks=[ANSWER], step=fail)
    setup(machine, say=said.append)
    assert machine.asked == [("sh", "-s")]
    assert said == []


def test_a_failed_step_says_why_in_apts_own_words() -> None:
    machine = Scripted(looks=[STOPPED], step=fail)
    with pytest.raises(SetupError, match="failed on workbox: E: Unable to fetch") as caught:
        setup(machine, say=lambda sentence: None)
    assert INSTRUCTIONS in caught.value.remedy


def test_steps_without_effect_are_an_error() -> None:
    machine = Scripted(looks=[STOPPED, STOPPED], step=succeed)
    with pytest.raises(SetupError, match="still has no engine"):
        setup(machine, say=lambda sentence: None)


def test_a_login_that_is_not_in_the_group_yet_is_told_so() -> None:
    said: list[str] = []
    later = ANSWER.replace("socket_usable=yes", "socket_usable=no")
    before = later.replace("groups=ada docker lab", "groups=ada lab")
    state = setup(Scripted(looks=[before, later], step=succeed), say=said.append)
    assert state.needs_new_login
    assert "can become root" in said[0]
    assert "from the next login on" in said[1]


def test_ubuntu_is_said_to_be_untested() -> None:
    said: list[str] = []
    ubuntu = STOPPED.replace("=debian", "=ubuntu").replace("version=13", "version=24.04")
    setup(Scripted(looks=[ubuntu, ANSWER], step=succeed), say=said.append)
    assert "not tested on Ubuntu" in said[0]
