"""Repositories as they stand: four real ones run, and those that cannot be had."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupbox import errors
from tests.integration.errorbox import files_of, refused
from tests.integration.jupbox_command import Answer, Laptop, MainJob, StackOnBox
from tests.integration.team import sweep
from tests.triggers import triggers

REPOSITORIES = Path(__file__).parents[1] / "binder"
SHELF = "shelf"


@pytest.fixture(scope="module")
def places() -> list[str]:
    """What was copied to the box's notebooks."""
    return []


@pytest.fixture
def shelf(ada_on_store: MainJob, places: list[str]) -> Iterator[StackOnBox]:
    """A second box of hers, on which one repository after the other runs."""
    ada = ada_on_store
    stack = StackOnBox(box=ada.box, name=f"jupbox-ada_{SHELF}")
    try:
        yield stack
    finally:
        ada.laptop.jupbox("rm", f"{ada.box.name}/{SHELF}", "--data", "--no-backup", "--yes")
        sweep(ada, stack.name)
        for name in places:
            ada.box.exec("rm", "-rf", "--", f"/home/ada/notebooks/{name}")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A repository that git can clone: nbclient's, with one commit and a tag."""
    folder = tmp_path / "remotes" / "nbclient.git"
    folder.mkdir(parents=True)
    for path in (REPOSITORIES / "nbclient").rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(REPOSITORIES / "nbclient")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")
    git(folder, "tag", "v1")
    return folder


def outputs(ada: MainJob, notebook: str) -> list[Any]:
    """What the cells of a notebook put out when they are run on the box."""
    command = ("jupyter", "nbconvert", "--to", "notebook", "--execute", "--stdout", notebook)
    done = ada.laptop.must("exec", f"{ada.box.name}/{SHELF}", "--", *command)
    cells = json.loads(done.stdout)["cells"]
    return [one for cell in cells for one in cell.get("outputs", ())]


def up(ada: MainJob, source: str, *options: str) -> Answer:
    return ada.laptop.must("up", f"{ada.box.name}/{SHELF}", "--from", source, *options)


@pytest.mark.box
@pytest.mark.slow
@pytest.mark.timeout(1800)  # four environments, and the first server of its box perhaps
def test_four_real_repositories_run_their_notebooks(
    ada_on_store: MainJob, shelf: StackOnBox, places: list[str], remote: Path, other_laptop: Laptop
) -> None:
    ada = ada_on_store
    places += ["nbclient", "papermill", "nbsphinx", "jupytext"]

    # pyproject.toml, cloned
    first = up(ada, f"git+file://{remote}@v1")
    assert "Repository  storebox:/home/ada/notebooks/nbclient" in first.stdout
    numbers = outputs(ada, "nbclient/tests/files/Factorials.ipynb")
    assert "".join(numbers[0]["text"]).split()[-1] == "144"
    # the clone is one: the user goes on with git
    commit = ada.laptop.must(
        "exec", f"storebox/{SHELF}", "--", "git", "-C", "nbclient", "rev-parse", "HEAD"
    )
    assert commit.stdout.strip() == git(remote, "rev-parse", "HEAD")
    # what runs is kept by whoever does not name the repository, and their files are theirs
    before = shelf.identity()
    shelf.exec("sh", "-c", "echo mine > nbclient/LICENSE")
    again = up(ada, f"git+file://{remote}@v1")
    assert "nbclient is there already and was left as it is" in again.stderr
    assert shelf.exec("cat", "nbclient/LICENSE") == "mine\n"
    fresh = other_laptop.jupbox("up", f"storebox/{SHELF}", "--dry-run")
    assert (fresh.code, fresh.stdout) == (0, ""), fresh.stderr
    assert shelf.identity() == before

    # requirements.txt in the root
    up(ada, str(REPOSITORIES / "papermill"))
    assert shelf.identity() != before
    shown = outputs(ada, "papermill/papermill/tests/notebooks/simple_execute.ipynb")
    assert [one["text"] for one in shown] == [["None\n"]]
    assert shelf.python("import tenacity, entrypoints; print('both')") == "both\n"

    # .binder/ with requirements.txt, apt.txt, postBuild and start
    source = str(REPOSITORIES / "nbsphinx")
    refusal = ada.laptop.jupbox("up", f"storebox/{SHELF}", "--from", source)
    said = refused(refusal, errors.ConfigError)
    assert ".binder/start:5: " in said.wrong
    assert "--partial" in said.remedy
    up(ada, source, "--partial")
    plots = outputs(ada, "nbsphinx/doc/gallery/cell-tag.ipynb")
    assert sum("image/png" in one.get("data", {}) for one in plots) == 2

    # binder/ with requirements.txt and postBuild
    up(ada, str(REPOSITORIES / "jupytext"), "--partial")
    folder = "jupytext/tests/data/notebooks/inputs/ipynb_py"
    table, *_ = outputs(ada, f"{folder}/nteract_with_parameter.ipynb")
    assert "x0  1  7" in "".join(table["data"]["text/plain"])


@triggers(errors.RepositoryError)
def test_a_repository_or_revision_that_is_gone_is_said(desk: Laptop, remote: Path) -> None:
    gone = refused(
        desk.jupbox("up", "workbox", "--from", f"file://{remote}@v0"), errors.RepositoryError
    )
    assert "nbclient.git has no revision v0" in gone.wrong
    nowhere = desk.jupbox("up", "workbox", "--from", f"file://{remote}/nothing")
    assert "cannot be had" in refused(nowhere, errors.RepositoryError).wrong


@triggers(errors.ConfigError)
def test_all_that_cannot_be_honoured_is_named_by_file_and_line(desk: Laptop) -> None:
    folder = desk.folder.parent / "conda"
    folder.mkdir()
    (folder / "environment.yml").write_text("name: x\ndependencies:\n  - numpy\n")
    (folder / "runtime.txt").write_text("python-3.7\n")
    (folder / "requirements.txt").write_text("six\n-e .\n")
    answer = desk.jupbox("up", "workbox", "--from", str(folder))
    refused(answer, errors.ConfigError)
    for place in ("environment.yml:2: ", "runtime.txt:1: ", "requirements.txt:2: "):
        assert place in answer.stderr


def test_a_project_is_written_from_a_repository_here_by_the_names_of_its_files(
    desk: Laptop,
) -> None:
    (desk.folder / "requirements.txt").write_text("six\n")
    desk.must("init", "workbox", "--from", ".")
    text = (desk.folder / "jupbox.toml").read_text()
    assert 'python = ["requirements.txt"]' in text
    assert files_of(desk) == ["jupbox.toml", "requirements.txt"]


def test_a_project_is_written_from_a_clone_with_what_its_files_say(
    desk: Laptop, remote: Path
) -> None:
    desk.must("init", "workbox", "--from", f"file://{remote}@{git(remote, 'rev-parse', 'HEAD')}")
    text = (desk.folder / "jupbox.toml").read_text()
    assert "[images.nbclient]" in text
    assert '"jupyter_core>=5.4.0"' in text
