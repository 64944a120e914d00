"""A file as it was at a revision."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from jupbox.errors import ClientError, LockError
from jupbox.host import git


def run(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in a folder of a repository, whose lock has changed since its commit."""
    folder = tmp_path / "deep" / "project"
    folder.mkdir(parents=True)
    run(tmp_path, "init", "--quiet")
    (folder / "jupbox.lock").write_text("first é\n", encoding="utf-8")
    run(tmp_path, "add", ".")
    run(tmp_path, "commit", "--quiet", "-m", "first")
    (folder / "jupbox.lock").write_text("second\n")
    return folder


@pytest.mark.real_process
def test_a_file_is_what_it_was_whatever_it_is_now(project: Path) -> None:
    assert git.show(project, "HEAD", "jupbox.lock", environ=os.environ) == "first é\n"


@pytest.mark.real_process
@pytest.mark.parametrize(
    ("revision", "path"),
    [
        ("HEAD", "other.lock"),
        ("nowhere", "jupbox.lock"),
        ("--output=made", "jupbox.lock"),
        ("", "other.lock"),
    ],
)
def test_what_git_does_not_have_is_an_error_that_names_it(
    project: Path, revision: str, path: str
) -> None:
    with pytest.raises(LockError, match="git has no") as caught:
        git.show(project, revision, path, environ=os.environ)
    assert repr(revision) in caught.value.message
    assert "\n" not in caught.value.message
    assert [item.name for item in project.iterdir()] == ["jupbox.lock"]


@pytest.mark.real_process
def test_a_folder_without_a_repository_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(LockError, match="not a git repository"):
        git.show(tmp_path, "HEAD", "jupbox.lock", environ=os.environ)


@pytest.mark.real_process
def test_a_machine_without_git_is_told_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClientError, match="no git"):
        git.show(tmp_path, "HEAD", "jupbox.lock", environ=os.environ)
