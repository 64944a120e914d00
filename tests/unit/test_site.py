"""From a word on the command line to a box and its engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jupbox import site as room
from jupbox.errors import ConfigError, EngineError, EnginePermissionError
from jupbox.host.facts import parse
from jupbox.host.machine import LocalMachine
from jupbox.host.ssh import SshMachine
from jupbox.project import Box
from jupbox.site import Site, Surroundings, connect, load_project, lock_path, machine_of
from tests.unit.fakes import FakeMachine
from tests.unit.host.test_facts import answer

BOXES = '[boxes.work]\nhost = "workbox"\n'


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own folders are the test's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    cwd = tmp_path / "project" / "deep" / "below"
    cwd.mkdir(parents=True)
    return Surroundings(cwd=cwd, home=tmp_path / "home", environ={})


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# --- finding the project ----------------------------------------------------------------------


def test_without_any_file_there_is_no_root(around: Surroundings) -> None:
    assert load_project(around).root is None


def test_the_nearest_file_above_is_the_projects(around: Surroundings, tmp_path: Path) -> None:
    write(tmp_path / "jupbox.toml", "[boxes.far]\n")
    near = write(tmp_path / "project" / "jupbox.toml", BOXES)
    found = load_project(around)
    assert found.root == near.parent
    assert set(found.boxes) == {"work"}


def test_a_folder_of_that_name_is_no_project(around: Surroundings, tmp_path: Path) -> None:
    (tmp_path / "project" / "jupbox.toml").mkdir()
    assert load_project(around).root is None


def test_personal_boxes_come_from_the_users_own_file(around: Surroundings) -> None:
    write(around.user_file, "[boxes.mine]\n")
    found = load_project(around)
    assert (found.root, set(found.boxes)) == (None, {"mine"})


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[boxes.a]\nhots = 1\n", b"no toml"])
def test_a_file_that_cannot_be_used_is_an_error_that_names_it(
    around: Surroundings, content: bytes
) -> None:
    path = write(around.cwd / "jupbox.toml", "")
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"jupbox\.toml"):
        load_project(around)


def test_the_users_file_is_named_too(around: Surroundings) -> None:
    write(around.user_file, "no toml")
    with pytest.raises(ConfigError, match=str(around.user_file)):
        load_project(around)


def test_the_lock_lies_beside_the_project_else_in_the_users_data_for_each_box(
    around: Surroundings, tmp_path: Path
) -> None:
    for name in ("work", "home"):
        found = lock_path(load_project(around), Box(name=name, host="workbox"))
        assert found == tmp_path / "data" / "jupbox" / f"{name}.lock"
    write(around.cwd / "jupbox.toml", BOXES)
    project = load_project(around)
    assert lock_path(project, project.box("work")) == around.cwd / "jupbox.lock"


def test_a_project_of_another_user_is_not_followed(
    around: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "jupbox.toml", BOXES)
    if os.geteuid() == 0:
        os.chown(path, 4321, -1)
    foreign = path.stat().st_uid
    monkeypatch.setattr(room.os, "geteuid", lambda: foreign + 1)
    with pytest.raises(ConfigError, match=f"{path} belongs to another user"):
        load_project(around)
    monkeypatch.setattr(room.os, "geteuid", lambda: foreign)
    assert load_project(around).root == tmp_path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a file of root's")
def test_a_project_of_the_administrator_is_followed(
    around: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "jupbox.toml", BOXES)
    monkeypatch.setattr(room.os, "geteuid", lambda: 1000)
    assert load_project(around).root == tmp_path


# --- machines ---------------------------------------------------------------------------------


def test_local_is_this_machine_and_all_else_is_behind_ssh() -> None:
    assert isinstance(machine_of(Box(name="local", host="local")), LocalMachine)
    assert isinstance(machine_of(Box(name="here", host="local")), LocalMachine)
    far = machine_of(Box(name="work", host="alice@workbox"))
    assert isinstance(far, SshMachine)
    assert far.name == "alice@workbox"


# --- connecting -------------------------------------------------------------------------------


class _Engine:
    def __init__(self, socket: Path, **about: Any) -> None:
        self.socket, self.about, self.checked = socket, about, False

    def check(self) -> str:
        self.checked = True
        return "29.0"


@pytest.fixture
def reach(around: Surroundings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Site]:
    """Connect to a box whose facts are as given."""

    def run(word: str | None = "work", **facts: str) -> Site:
        class Machine(FakeMachine):
            def local_socket(self, remote: str) -> Path:
                return Path("/forwarded") / remote.lstrip("/")

        project = load_project(around)
        box = project.box(word)
        monkeypatch.setattr(room, "machine_of", lambda box: Machine(name=box.host))
        monkeypatch.setattr(room, "Engine", _Engine)
        monkeypatch.setattr(room.host_facts, "look", lambda machine: parse(answer(**facts)))
        return connect(project, box, around)

    write(around.cwd / "jupbox.toml", BOXES)
    return run


def test_a_box_is_its_facts_and_an_engine_that_was_looked_at(reach: Callable[..., Site]) -> None:
    found = reach()
    assert isinstance(found.engine, _Engine)
    assert found.engine.socket == Path("/forwarded/var/run/docker.sock")
    assert found.engine.checked
    assert (found.facts.user, found.stack) == ("alice", "jupbox-alice_work")


def test_the_socket_is_the_one_that_the_host_has(reach: Callable[..., Site]) -> None:
    found = reach(socket="/run/user/1000/docker.sock").engine
    assert isinstance(found, _Engine)
    assert found.socket == Path("/forwarded/run/user/1000/docker.sock")


@pytest.mark.parametrize(
    ("docker", "what", "verb"),
    [("", "is not installed", "installs"), ("/usr/bin/dockerd", "does not run", "starts")],
)
def test_without_a_socket_there_is_no_engine_and_setup_helps(
    reach: Callable[..., Site], docker: str, what: str, verb: str
) -> None:
    with pytest.raises(EngineError, match=what) as caught:
        reach(docker=docker, socket="", usable="")
    assert f"`jupbox setup work` {verb}" in caught.value.remedy


def test_somebody_elses_socket_is_an_error_that_names_user_and_socket(
    reach: Callable[..., Site],
) -> None:
    with pytest.raises(EnginePermissionError, match="alice may not use") as caught:
        reach(usable="no")
    assert "/var/run/docker.sock" in caught.value.message
    assert "root" in caught.value.remedy


def test_a_machine_that_no_image_can_be_made_for_is_an_error(reach: Callable[..., Site]) -> None:
    with pytest.raises(EngineError, match="workbox is a riscv64 machine") as caught:
        reach(machine="riscv64")
    assert "amd64 and arm64" in caught.value.message


# --- the word that names a box ----------------------------------------------------------------


def test_a_box_of_the_project_is_named_by_its_own_name(reach: Callable[..., Site]) -> None:
    assert reach().command == " work"


def test_a_destination_is_named_as_it_was_given(
    reach: Callable[..., Site], around: Surroundings
) -> None:
    (around.cwd / "jupbox.toml").unlink()
    found = reach("alice@big.host")
    assert (found.box.name, found.command) == ("alice-big-host", " alice@big.host")


def test_this_machine_is_named_local(reach: Callable[..., Site]) -> None:
    assert reach("local").command == " local"


# --- surroundings -----------------------------------------------------------------------------


def test_the_clock_has_a_zone() -> None:
    assert Surroundings().now().tzinfo is not None


def test_tests_may_give_another_world(around: Surroundings) -> None:
    assert replace(around, environ={"A": "b"}).environ == {"A": "b"}
