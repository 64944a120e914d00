"""`init` without a box: what it asks, how it names things, and that it overwrites nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupbox.console import Console
from jupbox.errors import ConfigError, ConfirmationError, UnknownNameError
from jupbox.project import Project
from jupbox.site import Surroundings, load_project
from jupbox.workflows.init import init

Init = Callable[..., Project]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person types; with nothing left nobody is there."""
    typed: list[str] = []

    def choose(_self: Console, question: str, options: Any, *, default: str, remedy: str) -> str:
        if not typed:
            raise ConfirmationError(question, remedy=remedy)
        offered.append((tuple(options), default))
        return typed.pop(0)

    offered: list[tuple[tuple[str, ...], str]] = []
    monkeypatch.setattr(Console, "choose", choose)
    monkeypatch.setattr(Console, "offered", offered, raising=False)
    return typed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    (tmp_path / "My Analysis").mkdir()
    return tmp_path / "My Analysis"


@pytest.fixture
def run(folder: Path, answers: list[str]) -> Init:
    def call(word: str | None = None, at: Path = folder, **given: Any) -> Project:
        around = Surroundings(cwd=at, home=folder.parent / "home", environ={})
        options = {"host": None, "image": None, "source": None, "yes": False, **given}
        init(word, around=around, console=Console(), **options)
        return load_project(around)

    return call


def with_hosts(folder: Path, *names: str) -> None:
    (folder.parent / "home" / ".ssh" / "config").write_text(f"Host {' '.join(names)}\n")


def only(project: Project) -> tuple[str, str, str]:
    (box,) = project.boxes.values()
    return box.name, box.host, box.image


def test_a_destination_says_host_and_name(run: Init) -> None:
    project = run("ada@big.example.org")
    assert only(project) == ("ada-big-example-org", "ada@big.example.org", "my-analysis")
    assert [layer.name for layer in project.images["my-analysis"].layers] == [
        "minimal",
        "my-analysis",
    ]


def test_this_machine_may_be_the_box(run: Init) -> None:
    assert only(run("local")) == ("local", "local", "my-analysis")


def test_a_name_and_a_host_are_taken_as_they_are(run: Init) -> None:
    assert only(run("gpu", host="ada@big")) == ("gpu", "ada@big", "my-analysis")


@pytest.mark.parametrize("name", ["My Box", "-x", "a/b", ""])
def test_a_name_that_cannot_be_used_is_refused(run: Init, folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="no name for a box"):
        run(name, host="big")
    assert list(folder.iterdir()) == []


def test_a_host_that_cannot_be_used_is_refused(run: Init) -> None:
    with pytest.raises(UnknownNameError):
        run("gpu", host="-oProxyCommand=x")


def test_the_only_host_of_ssh_is_the_default(run: Init, folder: Path, answers: list[str]) -> None:
    with_hosts(folder, "workbox", "*")
    answers.append("workbox")
    assert only(run())[:2] == ("workbox", "workbox")
    assert Console.offered == [(("workbox",), "workbox")]  # type: ignore[attr-defined]


def test_yes_takes_the_only_host_and_asks_nothing(run: Init, folder: Path) -> None:
    with_hosts(folder, "workbox")
    assert only(run(yes=True))[:2] == ("workbox", "workbox")


def test_of_several_hosts_none_is_the_default(run: Init, folder: Path, answers: list[str]) -> None:
    with_hosts(folder, "workbox", "bigbox")
    answers += ["not a place", "bigbox"]
    assert only(run(yes=True))[0] == "bigbox"
    assert Console.offered == [(("workbox", "bigbox"), "")] * 2  # type: ignore[attr-defined]


def test_nobody_there_to_ask_leaves_nothing_behind(run: Init, folder: Path) -> None:
    with pytest.raises(ConfirmationError) as caught:
        run()
    assert "`jupbox init HOST`" in caught.value.remedy
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "image"), [("minimal", "my-minimal"), ("Dask & co", "dask-co"), ("x" * 90, None)]
)
def test_the_image_is_called_as_the_folder(
    run: Init, folder: Path, name: str, image: str | None
) -> None:
    (folder.parent / name).mkdir()
    found = only(run("workbox", at=folder.parent / name))[2]
    assert found == (image or found)
    assert len(found) <= 40


def test_another_image_that_ships_may_be_added_to(run: Init) -> None:
    project = run("workbox", image="scipy")
    assert "numpy" in project.images["my-analysis"].python


def test_an_image_that_does_not_ship_is_named_with_the_nearest(run: Init, folder: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        run("workbox", image="scypi")
    assert "Did you mean `scipy`?" in caught.value.remedy
    assert list(folder.iterdir()) == []


def test_nothing_is_overwritten(run: Init, folder: Path) -> None:
    (folder / "jupbox.toml").write_text("# mine\n")
    with pytest.raises(ConfigError, match="already"):
        run("workbox")
    assert (folder / "jupbox.toml").read_text() == "# mine\n"


def test_a_project_above_does_not_stand_in_the_way(run: Init, folder: Path) -> None:
    (folder.parent / "jupbox.toml").write_text("[boxes.theirs]\n")
    assert only(run("workbox"))[0] == "workbox"


# --- from a repository ------------------------------------------------------------------------


def test_a_repository_here_is_written_by_the_names_of_its_files(run: Init, folder: Path) -> None:
    (folder / "requirements.txt").write_text("six\n")
    project = run("workbox", source=".")
    assert 'python = ["requirements.txt"]' in (folder / "jupbox.toml").read_text()
    assert only(project) == ("workbox", "workbox", "my-analysis")
    assert project.images["my-analysis"].python[-1] == "six"


def test_a_repository_elsewhere_is_written_by_what_its_files_say(run: Init, folder: Path) -> None:
    (folder.parent / "scipy" / "binder").mkdir(parents=True)
    (folder.parent / "scipy" / "binder" / "requirements.txt").write_text("six\n")
    project = run("workbox", source="../scipy", image="scipy")
    assert only(project)[2] == "my-scipy"
    assert [layer.name for layer in project.images["my-scipy"].layers][-2:] == ["scipy", "my-scipy"]
    assert project.images["my-scipy"].python[-1] == "six"


def test_what_cannot_be_honoured_stops_unless_told_to_go_on(
    run: Init, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "requirements.txt").write_text("six\n-e .\n")
    with pytest.raises(ConfigError, match=r"requirements\.txt:2: -e .*") as caught:
        run("workbox", source=".")
    assert "`--partial`" in caught.value.remedy
    assert not (folder / "jupbox.toml").exists()
    project = run("workbox", source=".", partial=True)
    assert project.images["my-analysis"].layers[-1].python == ("six",)
    assert "requirements.txt:2: " in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_said(run: Init) -> None:
    with pytest.raises(ConfigError, match=r"no folder \./nothing"):
        run("workbox", source="./nothing")


def test_a_box_gives_all_of_itself(run: Init) -> None:
    with pytest.raises(ConfigError, match="workbox is a box"):
        run("gpu", source="workbox")


def test_a_link_out_of_a_repository_is_not_followed(run: Init, folder: Path) -> None:
    (folder.parent / "secret.txt").write_text("my secret\n")
    (folder / "requirements.txt").symlink_to("../secret.txt")
    project = run("workbox", source=".")
    assert project.images["my-analysis"].layers[-1].python == ()
