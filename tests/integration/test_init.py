"""A new project: asked for on a terminal, and read back from what runs on a box."""

from __future__ import annotations

import json
from pathlib import Path

from jupbox import errors
from jupbox.lock import load_lock
from jupbox.project import Project, parse_project, shipped_definitions
from tests.integration.errorbox import files_of, on_a_terminal, refused
from tests.integration.jupbox_command import Laptop, MainJob
from tests.triggers import triggers


def project_in(folder: Path) -> Project:
    return parse_project(
        (folder / "jupbox.toml").read_text(),
        source="jupbox.toml",
        root=folder,
        user_text=None,
        user_source="config.toml",
        shipped=shipped_definitions(),
    )


def with_hosts(laptop: Laptop, *names: str) -> None:
    config = Path(laptop.environ["HOME"]) / ".ssh" / "config"
    config.write_text("".join(f"Host {name}\n" for name in (*names, "*.example.org")))


def test_hosts_of_ssh_are_offered_by_number(desk: Laptop) -> None:
    with_hosts(desk, "workbox", "bigbox")
    with on_a_terminal(desk, "init") as terminal:
        terminal.wait_for("2  bigbox")
        terminal.type("2\n")
        assert terminal.end().code == 0
    box = project_in(desk.folder).boxes["bigbox"]
    assert (box.host, box.image) == ("bigbox", "project")
    assert "jupbox up bigbox" in terminal.text


@triggers(errors.ConfirmationError)
def test_without_a_terminal_the_host_must_be_named(desk: Laptop) -> None:
    with_hosts(desk, "workbox", "bigbox")
    said = refused(desk.jupbox("init"), errors.ConfirmationError)
    assert "`jupbox init HOST`" in said.remedy
    assert files_of(desk) == []


@triggers(errors.ConfigError)
def test_a_project_that_is_there_is_not_overwritten(desk: Laptop) -> None:
    desk.must("init", "workbox")
    before = (desk.folder / "jupbox.toml").read_text()
    said = refused(desk.jupbox("init", "bigbox"), errors.ConfigError)
    assert "already" in said.wrong
    assert (desk.folder / "jupbox.toml").read_text() == before


def test_what_runs_is_read_back_with_its_lock(ada: MainJob, desk: Laptop) -> None:
    before = ada.stack.identity()
    said = desk.must("init", "--from", "workbox")
    assert "image minimal, as it runs there" in said.stdout
    assert files_of(desk) == ["jupbox.lock", "jupbox.toml"]
    project = project_in(desk.folder)
    lock = load_lock((desk.folder / "jupbox.lock").read_text(), source="jupbox.lock")
    assert lock.images["minimal"].definition == project.images["minimal"].digest
    assert project.boxes["workbox"].port == "auto"

    report = json.loads(desk.must("status", "--json").stdout)

    assert report["lock"] == lock.images["minimal"].digest()
    assert ada.stack.identity() == before


@triggers(errors.NotRunningError)
def test_nothing_is_read_back_where_nothing_runs(ada: MainJob, desk: Laptop) -> None:
    said = refused(desk.jupbox("init", "--from", "workbox/nothing"), errors.NotRunningError)
    assert "There is no notebook server on workbox" in said.wrong
    assert files_of(desk) == []
